"""The examples of the API's documentation: what the default model answered for a photo of a cat.

They lie in `app/web/examples.json`, which `docs/refresh.py` writes from real answers of the running
service. The one of `/attention` is shortened to the first two words of its caption, that of
`/models` to the default model and another after it.
"""

import json
from pathlib import Path
from typing import Any

from app.api.problem_kinds import PROBLEMS
from models.errors import UnreadableImageError

__all__ = [
    "ATTENTION",
    "CAPTION",
    "JOB",
    "MODELS",
    "MODEL_DESCRIPTION",
    "batch",
    "job",
    "metrics_text",
]

_ANSWERS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[1] / "web" / "examples.json").read_text(encoding="utf-8")
)

CAPTION: dict[str, Any] = _ANSWERS["caption"]

ATTENTION: dict[str, Any] = _ANSWERS["attention"]

MODELS: dict[str, Any] = _ANSWERS["models"]

MODEL_DESCRIPTION: dict[str, Any] = MODELS["models"][0]


JOB: dict[str, Any] = {
    "id": "5f0c1d7be1a94d7a9b1f5a7d2c3e4b5a",
    "state": "active",
    "created": "2026-11-28T12:00:00.000Z",
    "total": 2,
    "captioned": 0,
    "failed": 0,
}


def batch() -> dict[str, Any]:
    """Give an answer of `POST /caption/batch`: a photo, and a file that is none."""
    kind = PROBLEMS[UnreadableImageError]
    problem = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.example,
        "instance": "urn:request:1f0c6f6a3d1c4f0e9b1f5a7d2c3e4b5a",
    }
    pictures = [
        {"position": 0, "name": "cat.jpg", "status": 200, "answer": CAPTION},
        {"position": 1, "name": "notes.txt", "status": kind.status, "problem": problem},
    ]
    return {"pictures": pictures, "captioned": 1, "failed": 1}


def job() -> dict[str, Any]:
    """Give an answer of `GET /jobs/{job_id}`: a photo is captioned, another one waits."""
    return JOB | {"captioned": 1, "pictures": batch()["pictures"][:1]}


def metrics_text() -> str:
    """Give the first lines of `GET /metrics`."""
    return "".join(f"{line}\n" for line in _ANSWERS["metrics"])
