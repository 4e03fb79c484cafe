"""The examples that the documentation shows: answers as this service gives them, shortened to a short caption."""

import math
from typing import Any

__all__ = ["ATTENTION", "CAPTION", "MODELS", "MODEL_DESCRIPTION", "metrics_text"]

_CELLS = 14
_DIGEST = "9f2c64a0d1c3b5e7f8092a4b6c8d0e1f2031425364758697a8b9cadbecfd0e1f"


def _map_around(row: float, column: float, spread: float) -> list[list[float]]:
    """A map that lies around one cell and sums to 1."""
    weights = [
        [math.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * spread**2)) for x in range(_CELLS)]
        for y in range(_CELLS)
    ]
    total = sum(map(sum, weights))
    return [[round(weight / total, 5) for weight in line] for line in weights]


_IMAGE = {"width": 3024, "height": 4032, "format": "JPEG"}
_MODEL = {"name": "soft-attention", "digest": _DIGEST}
_TIMING = {"decode_seconds": 0.041218, "queue_seconds": 0.010467, "compute_seconds": 0.142093}

CAPTION: dict[str, Any] = {
    "caption": "a dog runs through the grass",
    "captions": [
        {
            "text": "a dog runs through the grass",
            "logprob": -4.862179,
            "confidence": 0.499284,
            "words": [
                {"word": "a", "probability": 0.914207},
                {"word": "dog", "probability": 0.871334},
                {"word": "runs", "probability": 0.362911},
                {"word": "through", "probability": 0.480126},
                {"word": "the", "probability": 0.402583},
                {"word": "grass", "probability": 0.627718},
            ],
        }
    ],
    "image": _IMAGE,
    "model": _MODEL,
    "timing": _TIMING,
}

ATTENTION: dict[str, Any] = {
    "caption": "a dog",
    "words": [
        {"word": "a", "probability": 0.914207, "alpha": _map_around(6.5, 6.5, 4.0), "beta": 0.482116},
        {"word": "dog", "probability": 0.871334, "alpha": _map_around(8.0, 5.0, 1.6), "beta": 0.791354},
    ],
    "grid": {"rows": _CELLS, "columns": _CELLS, "box": [0.0, 0.0, 3024.0, 4032.0]},
    "image": _IMAGE,
    "model": _MODEL,
    "timing": _TIMING,
}

MODEL_DESCRIPTION: dict[str, Any] = {
    "name": "soft-attention",
    "loaded": True,
    "digest": _DIGEST,
    "parameters": 12_000_000,
    "config": {"attention": "additive", "decoder_dim": 512, "decoding": {"beam_size": 5, "max_length": 20}},
    "metrics": {"flickr8k-test": {"BLEU-4": 23.0, "CIDEr-D": 0.57}},
}

MODELS: dict[str, Any] = {"models": [MODEL_DESCRIPTION]}


def metrics_text() -> str:
    """The first lines of `GET /metrics`."""
    return (
        "# HELP glimpse_http_requests_total Requests answered.\n"
        "# TYPE glimpse_http_requests_total counter\n"
        'glimpse_http_requests_total{method="POST",route="/caption",status="200"} 42.0\n'
    )
