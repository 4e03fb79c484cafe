"""Offline training: captioned images in, a model bundle out.

Imports `models`, and of `evaluation` what validates and rewards; never imported by `app`.
"""
