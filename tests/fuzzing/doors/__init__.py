"""One module for each door."""
