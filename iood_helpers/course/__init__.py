"""What the notebooks need around the method: the runner, run folders, pictures and figures."""
