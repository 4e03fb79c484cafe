"""A captioner without weights, to try clients out and for tests. Knows no torch.

Its preprocessing is real, and the pixels determine its captions.
"""

import hashlib
import logging
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.caption import Caption, Captioner, Hypothesis, ModelInfo, RuntimeInfo, Word
from models.config import DecodingOptions, ModelConfig, PreprocessConfig
from models.errors import UnknownModelError
from models.geometry import CellGrid
from models.preprocessing import DecodeLimits, PreparedImage, decode_image, prepare_image

__all__ = ["FakeCaptioner", "FakeCatalog"]

_logger = logging.getLogger(__name__)
_CELLS = 14
_SIDE_PIXELS = 224
_COLORS = ("red", "green", "blue")
_THINGS = ("dog", "cat", "boat", "bicycle", "clock", "kite", "horse", "train")
_PLACES = ("a field", "a street", "the water", "a table")


class FakeCaptioner:
    """Names the color that prevails and attends to what is bright; the rest is invented."""

    def __init__(self, name: str, *, batch_seconds: float = 0.0) -> None:
        """Take a name; each batch sleeps `batch_seconds`, as if a model computed."""
        self._batch_seconds = batch_seconds
        preprocess = PreprocessConfig(
            size_pixels=_SIDE_PIXELS, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)
        )
        config = ModelConfig(name=name, encoder="fake", vocab_size=32, preprocess=preprocess)
        digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()
        self._info = ModelInfo(name=name, digest=digest, config=config, parameters=0, metrics={})

    @property
    def info(self) -> ModelInfo:
        """Describe a model without parameters and without metrics."""
        return self._info

    @property
    def runtime(self) -> RuntimeInfo:
        """Say that nothing computes."""
        return RuntimeInfo("fake", "none", "none", 1, "the captions are invented")

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        """Decode and resize one image file, as a real captioner does."""
        decoded = decode_image(data, side_pixels=_SIDE_PIXELS, limits=limits)
        return prepare_image(decoded, self._info.config.preprocess)

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        """Caption each image, the same whatever else is in the batch."""
        if self._batch_seconds:
            time.sleep(self._batch_seconds)
        return [_caption(image, options) for image in images]


class FakeCatalog:
    """Has one fake model."""

    def __init__(self, name: str, *, batch_seconds: float = 0.0) -> None:
        """Take the model's name; `batch_seconds` is for `FakeCaptioner`."""
        self._captioner = FakeCaptioner(name, batch_seconds=batch_seconds)

    def names(self) -> list[str]:
        """List the one model."""
        return [self._captioner.info.name]

    def describe(self, name: str) -> ModelInfo:
        """Describe the model. Raises UnknownModelError for another name."""
        if name != self._captioner.info.name:
            raise UnknownModelError(f"No model is called {name!r}.")
        return self._captioner.info

    def load(self, name: str) -> Captioner:
        """Give the model, with a warning in the log. Raises UnknownModelError for another name."""
        _logger.warning(
            "the captions of %s are invented: GLIMPSE_CAPTIONER is 'fake'", self.describe(name).name
        )
        return self._captioner

    def reject(self, name: str, reason: str) -> None:
        """Do nothing: the one model is the default, which nobody rejects."""


def _caption(image: PreparedImage, options: DecodingOptions) -> Caption:
    hypotheses = tuple(_hypothesis(image, rank, options) for rank in range(options.num_captions))
    return Caption(hypotheses=hypotheses, grid=CellGrid(_CELLS, _CELLS))


def _hypothesis(image: PreparedImage, rank: int, options: DecodingOptions) -> Hypothesis:
    color = _COLORS[int(image.pixels.mean(axis=(1, 2)).argmax())]
    seed = int(image.pixels.sum(dtype=np.int64)) + rank
    thing = _THINGS[seed % len(_THINGS)]
    place = _PLACES[seed // len(_THINGS) % len(_PLACES)]
    texts = f"a {color} {thing} in front of {place}".split()[: options.max_length]
    brightness = _cell_brightness(image.pixels)
    words = tuple(
        Word(
            text=text,
            probability=round(0.9 / (1.0 + rank + 0.1 * position), 6),
            alpha=_alpha(brightness, sharpness=4.0 * position),
            beta=round(1.0 / (1.0 + position), 6),
        )
        for position, text in enumerate(texts)
    )
    logprob = float(np.log([word.probability for word in words]).sum())
    return Hypothesis(
        text=" ".join(texts),
        words=words,
        logprob=logprob,
        confidence=float(np.exp(logprob / len(words))),
    )


def _cell_brightness(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Average pixels (3, S, S) uint8 over each cell: brightness (14, 14) in [0, 1]."""
    cell = _SIDE_PIXELS // _CELLS
    cells = pixels.astype(np.float32).reshape(3, _CELLS, cell, _CELLS, cell)
    return np.asarray(cells.mean(axis=(0, 2, 4)) / 255.0, dtype=np.float32)


def _alpha(brightness: npt.NDArray[np.float32], sharpness: float) -> npt.NDArray[np.float32]:
    """Give a map (14, 14), the softmax of sharpness * brightness: even at sharpness 0."""
    weights = np.exp(sharpness * brightness, dtype=np.float32)
    return np.asarray(weights / weights.sum(), dtype=np.float32)
