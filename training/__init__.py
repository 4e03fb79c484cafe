"""Offline training: captioned photos in, a model bundle out. Imports `models`, and is never
imported by `app`."""
