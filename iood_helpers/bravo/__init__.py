"""The benchmark: which metric is asked of which subset, how it is counted, and the files for its server."""
