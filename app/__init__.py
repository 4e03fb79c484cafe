"""Glimpse's service: HTTP, batching, operations. Knows nothing of training and evaluation."""

__version__ = "0.1.0"
