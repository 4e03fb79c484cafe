"""The field's metrics: captions against references, a score out."""
