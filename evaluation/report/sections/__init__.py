"""The results page, one section a file."""
