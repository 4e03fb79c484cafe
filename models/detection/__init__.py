"""Which objects an image shows, and where. Knows no captions."""
