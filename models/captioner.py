"""The captioner seam: prepared pictures in, captions with their maps out. Knows no web framework.

`Captioner` is the Protocol that the service talks to; `TorchCaptioner` (below) is the real one. A
fake, or an exported runtime, implements the same four members.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.bundles.checkpoint import Checkpoint
from models.bundles.registry import describe_model, load_model
from models.bundles.shared_tensors import MemoryUse, SharedTensors
from models.calibration import caption_confidence, word_confidence
from models.config import DecodingOptions, ModelConfig
from models.decoding import DecodingResult, ScoredCaption, decode
from models.geometry import CellGrid
from models.network import CaptioningModel
from models.precision import faster_precision
from models.preprocessing import DecodeLimits, PreparedImage, decode_image, normalize, prepare_image
from models.tokenizer import Vocabulary

__all__ = [
    "Caption",
    "Captioner",
    "Hypothesis",
    "ModelInfo",
    "Precision",
    "TorchCaptioner",
    "Word",
    "describe_captioner",
    "load_captioner",
]

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a caption.

    probability: of this word given the picture and the words before it, in [0, 1].
    alpha: (rows, columns) float32, where the model looked; non-negative, sums to 1.
    beta: the gate of the context, in [0, 1] (Xu et al. 2015, section 4.2.1).
    calibrated: that a person who describes the photo uses this word, in [0, 1]; None where that was
    not fitted.
    """

    text: str
    probability: float
    alpha: npt.NDArray[np.float32]
    beta: float
    calibrated: float | None = None

    @property
    def confidence(self) -> float:
        """The calibrated probability; of a model without calibration, the raw one."""
        return self.probability if self.calibrated is None else self.calibrated


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One candidate caption. `logprob` is the sum over its words and the end token.

    confidence: the share of its content words that a person who describes the photo is expected to
    use; of a model without calibration, the geometric mean of the probabilities of its words and
    the end token. In [0, 1].
    """

    text: str
    words: tuple[Word, ...]
    logprob: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Caption:
    """The answer for one image: hypotheses best first (at least one), and where the cells of
    their maps lie on it."""

    hypotheses: tuple[Hypothesis, ...]
    grid: CellGrid


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What `GET /models` tells of a model, and what it takes in memory when loaded. `digest` is
    as in `Checkpoint`."""

    name: str
    digest: str
    config: ModelConfig
    parameters: int
    metrics: Mapping[str, Any]
    memory: MemoryUse = field(default_factory=MemoryUse)


class Captioner(Protocol):
    """Anything that captions prepared pictures."""

    @property
    def info(self) -> ModelInfo:
        """Name, digest, configuration and measured quality."""

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        """Decode and resize one upload for this model. Thread-safe, runs before queueing; raises
        ImageError."""

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        """Caption a batch in one go, in order. Called from one thread at a time."""


class TorchCaptioner:
    """A checkpoint that captions, in PyTorch on the CPU.

    The encoder runs in bfloat16 where the processor is faster in it (`precision` "auto"), else in
    float32; the decoder always in float32.
    """

    def __init__(self, checkpoint: Checkpoint, *, precision: Precision = "auto") -> None:
        """Take a loaded checkpoint."""
        if precision == "auto":
            precision = faster_precision()
        self.precision = precision
        self._model: CaptioningModel = checkpoint.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._vocabulary = checkpoint.vocabulary
        self._calibration = checkpoint.config.calibration
        self._shared = checkpoint.shared  # kept with the model, so that others can share them
        self._info = ModelInfo(
            name=checkpoint.config.name,
            digest=checkpoint.digest,
            config=checkpoint.config,
            parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
            metrics=checkpoint.metrics,
            memory=checkpoint.memory,
        )

    @property
    def info(self) -> ModelInfo:
        """Name, digest, configuration and measured quality."""
        return self._info

    @property
    def model(self) -> CaptioningModel:
        """The network itself, for what measures it."""
        return self._model

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that it knows."""
        return self._vocabulary

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        """Decode and resize one upload for this model. Thread-safe; raises ImageError."""
        preprocess = self._info.config.preprocess
        return prepare_image(
            decode_image(data, side_pixels=preprocess.size_pixels, limits=limits), preprocess
        )

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        """Caption a batch in one go, in order; raises OptionsError."""
        if not images:
            return []
        with torch.inference_mode():
            annotations = self.annotate(
                torch.from_numpy(np.stack([image.pixels for image in images]))
            )
            results = decode(self._model.decoder, annotations, options)
        return [self._caption(result) for result in results]

    def annotate(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, S, S) uint8 to annotations (B, L, D) float32."""
        images = normalize(pixels, self._info.config.preprocess).contiguous(
            memory_format=torch.channels_last
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            annotations: Tensor = self._model.encoder(images)
        return annotations.float()

    def _caption(self, result: DecodingResult) -> Caption:
        hypotheses = tuple(self._hypothesis(caption) for caption in result.captions)
        return Caption(hypotheses, self._model.encoder.grid)

    def _hypothesis(self, caption: ScoredCaption) -> Hypothesis:
        texts = self._vocabulary.decode(caption.token_ids)
        words = tuple(
            self._word(text, min(math.exp(logprob), 1.0), alpha, beta)
            for text, logprob, alpha, beta in zip(
                texts,
                caption.logprobs[:-1].tolist(),
                caption.alphas,
                caption.betas.tolist(),
                strict=True,
            )
        )
        if self._calibration is None:
            confidence = min(math.exp(caption.avg_logprob), 1.0)
        else:
            confidence = caption_confidence((word.text, word.confidence) for word in words)
        return Hypothesis(" ".join(texts), words, caption.sum_logprob, confidence)

    def _word(self, text: str, probability: float, alpha: Tensor, beta: float) -> Word:
        known = self._calibration
        calibrated = None if known is None else word_confidence(known, text, probability)
        return Word(
            text,
            probability,
            alpha.numpy().reshape(self._model.encoder.grid_size),
            beta,
            calibrated,
        )


def load_captioner(
    folder: Path, name: str, *, precision: Precision = "auto", store: SharedTensors | None = None
) -> TorchCaptioner:
    """Load model `name` from the weights folder, verified. Raises UnknownModelError or
    CheckpointError.

    store: in common with other captioners, whose shared files are then in memory once.
    """
    return TorchCaptioner(load_model(folder, name, store or SharedTensors()), precision=precision)


def describe_captioner(folder: Path, name: str) -> ModelInfo:
    """What `load_captioner` would give, without reading the weights. Raises UnknownModelError or
    CheckpointError."""
    known = describe_model(folder, name)
    return ModelInfo(
        name, known.digest, known.config, known.parameters, known.metrics, known.memory
    )
