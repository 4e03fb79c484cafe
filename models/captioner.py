"""The captioner seam: prepared pictures in, captions with their maps out. Knows no web framework.

`Captioner` is the Protocol that the service talks to; `TorchCaptioner` (below) is the real one. A fake, or an
exported runtime, implements the same four members.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.config import DecodingOptions, ModelConfig
from models.preprocessing import DecodeLimits, PreparedImage

__all__ = ["Caption", "Captioner", "Grid", "Hypothesis", "ModelInfo", "Word"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a caption.

    probability: of this word given the picture and the words before it, in [0, 1].
    alpha: (rows, columns) float32, where the model looked; non-negative, sums to 1.
    beta: the gate of the context, in [0, 1] (Xu et al. 2015, section 4.2.1).
    """

    text: str
    probability: float
    alpha: npt.NDArray[np.float32]
    beta: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One candidate caption. `logprob` is the sum over its words and the end token; `confidence` is the
    geometric mean of their probabilities, in [0, 1]."""

    text: str
    words: tuple[Word, ...]
    logprob: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the map's cells lie on the picture: `box` is (left, top, right, bottom) in pixels of the picture as
    a person sees it (after EXIF rotation); the rows x columns cells divide it evenly."""

    rows: int
    columns: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Caption:
    """The answer for one picture: hypotheses best first (at least one), and the geometry of their maps."""

    hypotheses: tuple[Hypothesis, ...]
    grid: Grid


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What `GET /models` tells of a model. `digest` is the SHA-256 of the weights, in hex."""

    name: str
    digest: str
    config: ModelConfig
    parameters: int
    metrics: Mapping[str, Any]


class Captioner(Protocol):
    """Anything that captions prepared pictures."""

    @property
    def info(self) -> ModelInfo:
        """Name, digest, configuration and measured quality."""

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        """Decode and resize one upload for this model. Thread-safe, runs before queueing; raises ImageError."""

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        """Caption a batch in one go, in order. Called from one thread at a time."""
