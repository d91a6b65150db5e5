"""What is faster than the plain way, and why it gives the same numbers."""
