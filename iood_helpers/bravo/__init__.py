"""The benchmark: which metrics each subset has, how they are computed, and the files for its server."""
