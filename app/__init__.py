"""Glimpse's service: HTTP, batching, operations. The models are in `models`; training never
comes in here."""

__version__ = "0.1.0"
