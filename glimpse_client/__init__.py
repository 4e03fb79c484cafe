"""A client of Glimpse, the photo captioning service.

    from glimpse_client import Client

    with Client("http://localhost:8000") as client:
        print(client.caption("photo.jpg").caption)

Needs httpx and pydantic; neither PyTorch, nor any code of the service.

    client.py, async_client.py ──> calls.py ──> attempts.py, images.py, results.py, errors.py
"""

from glimpse_client.async_client import AsyncClient
from glimpse_client.client import Client
from glimpse_client.errors import (
    AccessRefusedError,
    AnswerError,
    BusyError,
    GlimpseError,
    ImageRefusedError,
    InvalidOptionError,
    ModelUnavailableError,
    ProblemError,
    RateLimitedError,
    ServerFaultError,
    TimedOutError,
    UnknownModelError,
    UnreachableError,
    UrlRefusedError,
    WrongOption,
)
from glimpse_client.results import (
    AttentionResult,
    CaptionResult,
    CaptionScore,
    FoundConcept,
    FoundObject,
    Grid,
    ImageDescription,
    LookedAt,
    ModelDescription,
    ModelName,
    Runtime,
    Timing,
    WordAttention,
    WordScore,
)

__all__ = [
    "AccessRefusedError",
    "AnswerError",
    "AsyncClient",
    "AttentionResult",
    "BusyError",
    "CaptionResult",
    "CaptionScore",
    "Client",
    "FoundConcept",
    "FoundObject",
    "GlimpseError",
    "Grid",
    "ImageDescription",
    "ImageRefusedError",
    "InvalidOptionError",
    "LookedAt",
    "ModelDescription",
    "ModelName",
    "ModelUnavailableError",
    "ProblemError",
    "RateLimitedError",
    "Runtime",
    "ServerFaultError",
    "TimedOutError",
    "Timing",
    "UnknownModelError",
    "UnreachableError",
    "UrlRefusedError",
    "WordAttention",
    "WordScore",
    "WrongOption",
]
