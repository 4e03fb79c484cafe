"""Phrases that several pages write alike. Measures nothing."""

from evaluation.results import Table
from models.config import DecodingOptions

__all__ = ["METRICS", "SHORT_METRICS", "describe_search", "in_millions", "model_title", "sentence"]

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")
"""The metrics that papers print, in the order of the pages."""

SHORT_METRICS = ("BLEU-4", "METEOR", "CIDEr-D")
"""Those of short tables."""


def model_title(table: Table, name: str) -> str:
    """Give a model's name as the first cell of its row."""
    return f"`{name}` (not shipped)" if name in table.not_shipped else f"`{name}`"


def sentence(text: str) -> str:
    """Begin with a capital."""
    return text[:1].upper() + text[1:]


def in_millions(count: int) -> str:
    """Give a number of parameters."""
    return f"{count / 1e6:.1f} M"


def describe_search(options: DecodingOptions) -> str:
    """Give the options of a search that matter for scores."""
    text = f"beam size {options.beam_size}, length penalty {options.length_penalty:g}"
    return f"{text}, no echoes" if options.avoid_echoes else text
