"""Glimpse's library: an image in, a caption and its attention out. Knows no web framework and
reads no environment."""
