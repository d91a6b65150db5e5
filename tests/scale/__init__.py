"""Tests of work on several processes: a package, so that its conftest has a name of its own."""
