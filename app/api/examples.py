"""The examples of the API's documentation: what the default model answered for a photo of a cat.

They lie in `app/web/examples.json`, which `docs/refresh.py` writes from real answers of the running
service. The one of `/attention` is shortened to the first two words of its caption, that of
`/models` to the default model and another after it.
"""

import json
from pathlib import Path
from typing import Any

__all__ = ["ATTENTION", "CAPTION", "MODELS", "MODEL_DESCRIPTION", "metrics_text"]

_ANSWERS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[1] / "web" / "examples.json").read_text(encoding="utf-8")
)

CAPTION: dict[str, Any] = _ANSWERS["caption"]

ATTENTION: dict[str, Any] = _ANSWERS["attention"]

MODELS: dict[str, Any] = _ANSWERS["models"]

MODEL_DESCRIPTION: dict[str, Any] = MODELS["models"][0]


def metrics_text() -> str:
    """Give the first lines of `GET /metrics`."""
    return "".join(f"{line}\n" for line in _ANSWERS["metrics"])
