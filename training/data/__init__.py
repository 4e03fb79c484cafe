"""Captioned photos on their way to a training step."""
