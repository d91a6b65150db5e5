"""The command ``iood``: maps of the unknown in one's own pictures, and the project's other commands under one roof."""
