"""What a captioner answers, and the Protocol that the service talks to. NumPy only: knows no torch.

Captioner.caption -> Caption -> Hypothesis -> Word
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.config import DecodingOptions, ModelConfig
from models.geometry import Box, CellGrid
from models.memory import MemoryUse
from models.preprocessing import DecodeLimits, PreparedImage

__all__ = [
    "Caption",
    "Captioner",
    "Hypothesis",
    "ImageTag",
    "ModelInfo",
    "RuntimeInfo",
    "TagKind",
    "TokenScores",
    "Word",
]

Float32s = npt.NDArray[np.float32]


class TagKind(StrEnum):
    """What a tag is: an object that was detected, or a concept that the image was taken for."""

    OBJECT = "object"
    CONCEPT = "concept"


@dataclass(frozen=True, slots=True)
class ImageTag:
    """An object or a concept that was found in an image, whatever the captions say.

    score: how sure the detector or the classifier is, in [0, 1].
    box: in fractions of the image; the whole image for a concept.
    """

    kind: TagKind
    name: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a caption.

    probability: of this word given the image and the words before it, in [0, 1].
    alpha: (rows, columns) float32, where the model looked; non-negative, sums to 1.
    beta: the gate of the context, in [0, 1] (Xu et al. 2015, section 4.2.1).
    calibrated: that a person who describes the image uses this word, in [0, 1]; None where no
        calibration was fitted.
    tag_shares: how much of alpha lies on each of the caption's tags, in their order; the rest lies
        on the cells themselves.
    """

    text: str
    probability: float
    alpha: Float32s
    beta: float
    calibrated: float | None = None
    tag_shares: tuple[float, ...] = ()

    @property
    def confidence(self) -> float:
        """The calibrated probability; of a model without calibration, the model's own."""
        return self.probability if self.calibrated is None else self.calibrated


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One candidate caption.

    logprob: natural log of the probability of its words and the end token.
    confidence: the share of its content words that a person who describes the image is expected to
        use; of a model without calibration, the geometric mean of the probabilities of its words
        and the end token. In [0, 1].
    """

    text: str
    words: tuple[Word, ...]
    logprob: float
    confidence: float

    @property
    def avg_logprob(self) -> float:
        """The mean natural log of a token's probability, the end token included."""
        return self.logprob / (len(self.words) + 1)


@dataclass(frozen=True, slots=True)
class Caption:
    """The answer for one image: hypotheses, best first (at least one).

    grid: where the cells of their maps lie on the image.
    tags: what else was found in it, objects first; empty where the model looks for none.
    """

    hypotheses: tuple[Hypothesis, ...]
    grid: CellGrid
    tags: tuple[ImageTag, ...] = ()

    @property
    def best(self) -> Hypothesis:
        """The hypothesis that ranks first."""
        return self.hypotheses[0]


@dataclass(frozen=True, slots=True)
class TokenScores:
    """A given caption of T tokens, read by teacher forcing: each token after the true ones before.

    logprobs: (T,) float32, natural log of each token's probability.
    alphas: (T, L) float32, the map from which each token was predicted.
    """

    logprobs: Float32s
    alphas: Float32s


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model.

    digest: SHA-256 of its weights, in hex, as `models.bundles.checkpoint.Checkpoint` has it.
    parameters: how many numbers it has; decoder_parameters: those of its decoder.
    metrics: what was measured, by the names of its metrics.json.
    memory: what it takes in memory when it is loaded.
    """

    name: str
    digest: str
    config: ModelConfig
    parameters: int
    metrics: Mapping[str, Any]
    memory: MemoryUse = field(default_factory=MemoryUse)
    decoder_parameters: int = 0


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What computes a model.

    name, version: of the runtime. precision: of the encoder.
    threads: how many of them compute one batch.
    reason: why it is this precision, in words for a log.
    """

    name: str
    version: str
    precision: str
    threads: int
    reason: str


class Captioner(Protocol):
    """Anything that captions prepared images."""

    @property
    def runtime(self) -> RuntimeInfo:
        """What it computes with, as the calling thread would compute."""

    @property
    def info(self) -> ModelInfo:
        """Name, digest, configuration and measured quality."""

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        """Decode and resize one image file for this model.

        Thread-safe; runs before queueing. Raises ImageError or OutOfMemoryError.
        """

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        """Caption a batch, in order. Called from one thread at a time. Raises OptionsError."""
