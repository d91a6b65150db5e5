"""The method: embed pixels, cluster them per class, calibrate, lower the confidence of what lies far away."""
