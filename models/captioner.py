"""The captioner seam: prepared pictures in, captions with their maps out. Knows no web framework.

`Captioner` is the Protocol that the service talks to; `TorchCaptioner` (below) is the real one. A fake, or an
exported runtime, implements the same four members.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.checkpoint import Checkpoint
from models.config import DecodingOptions, ModelConfig
from models.decoding import DecodingResult, ScoredCaption, decode
from models.preprocessing import DecodeLimits, PreparedImage, decode_image, normalise, prepare_image
from models.registry import load_model

__all__ = [
    "Caption",
    "Captioner",
    "Grid",
    "Hypothesis",
    "ModelInfo",
    "Precision",
    "TorchCaptioner",
    "Word",
    "load_captioner",
]

Precision = Literal["auto", "float32", "bfloat16"]


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


class TorchCaptioner:
    """A checkpoint that captions, in PyTorch on the CPU.

    The encoder runs in bfloat16 where the processor computes in it (`precision` "auto"), else in float32; the
    decoder always in float32.
    """

    def __init__(self, checkpoint: Checkpoint, *, precision: Precision = "auto") -> None:
        """Take a loaded checkpoint."""
        if precision == "auto":
            precision = "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"
        self.precision = precision
        self._model = checkpoint.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._vocabulary = checkpoint.vocabulary
        self._info = ModelInfo(
            name=checkpoint.config.name,
            digest=checkpoint.digest,
            config=checkpoint.config,
            parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
            metrics=checkpoint.metrics,
        )

    @property
    def info(self) -> ModelInfo:
        """Name, digest, configuration and measured quality."""
        return self._info

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        """Decode and resize one upload for this model. Thread-safe; raises ImageError."""
        preprocess = self._info.config.preprocess
        return prepare_image(decode_image(data, side_pixels=preprocess.size_pixels, limits=limits), preprocess)

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        """Caption a batch in one go, in order; raises OptionsError."""
        if not images:
            return []
        with torch.inference_mode():
            annotations = self.annotate(torch.from_numpy(np.stack([image.pixels for image in images])))
            results = decode(self._model.decoder, annotations, options)
        return [self._caption(image, result) for image, result in zip(images, results, strict=True)]

    def annotate(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, S, S) uint8 to annotations (B, L, D) float32."""
        images = normalise(pixels, self._info.config.preprocess).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            annotations: Tensor = self._model.encoder(images)
        return annotations.float()

    def _caption(self, image: PreparedImage, result: DecodingResult) -> Caption:
        hypotheses = tuple(self._hypothesis(caption) for caption in result.captions)
        return Caption(hypotheses, self._grid(image))

    def _hypothesis(self, caption: ScoredCaption) -> Hypothesis:
        rows, columns = self._model.encoder.grid_size
        texts = self._vocabulary.decode(caption.token_ids)
        words = tuple(
            Word(text, min(math.exp(logprob), 1.0), alpha.numpy().reshape(rows, columns), beta)
            for text, logprob, alpha, beta in zip(
                texts, caption.logprobs[:-1].tolist(), caption.alphas, caption.betas.tolist(), strict=True
            )
        )
        return Hypothesis(" ".join(texts), words, caption.sum_logprob, min(math.exp(caption.avg_logprob), 1.0))

    def _grid(self, image: PreparedImage) -> Grid:
        """Map the grid back to the picture: it was squeezed to a square, and cells begin at the encoder's offset."""
        encoder, size = self._model.encoder, self._info.config.preprocess.size_pixels
        rows, columns = encoder.grid_size
        first = encoder.offset_pixels
        right, bottom = first + columns * encoder.stride, first + rows * encoder.stride
        scale_x, scale_y = image.width / size, image.height / size
        return Grid(rows, columns, (first * scale_x, first * scale_y, right * scale_x, bottom * scale_y))


def load_captioner(folder: Path, name: str, *, precision: Precision = "auto") -> TorchCaptioner:
    """Load model `name` from the weights folder, verified. Raises UnknownModelError or CheckpointError."""
    return TorchCaptioner(load_model(folder, name), precision=precision)
