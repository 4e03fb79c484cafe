"""Captioned images on their way to a training step."""
