"""Networks that see: an image in, annotations out. One architecture a file."""
