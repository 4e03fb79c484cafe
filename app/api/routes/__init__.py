"""One file for one group of routes."""
