"""Offline training: captioned images in, a model bundle out. Imports `models`, and is never
imported by `app`."""
