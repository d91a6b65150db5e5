"""One module for each loader."""
