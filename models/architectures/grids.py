"""Where networks are cut and what their cells see: numbers alone, for every runtime.

Here stand the encoders that more than one runtime computes; what others are is in their own files
(`models.encoders`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from models.architectures.lite_scales import LITE0, LITE2
from models.config import ModelConfig
from models.decoders.config import AttentionConfig
from models.errors import ConfigError
from models.geometry import Box, CellGrid

__all__ = [
    "FUSED_CROP",
    "FUSED_SCALE",
    "GRIDS",
    "GRID_SIZE",
    "INCEPTION",
    "INCEPTION_AND_LITE0",
    "LITE_NORMALIZATION",
    "TINY",
    "TORCHVISION",
    "Cut",
    "EncoderGrid",
    "Normalization",
    "Sight",
    "check_encoder",
    "check_tags",
    "find_cut",
    "locate_grid",
    "sight_of",
]

# rows, columns: L = 196 annotations (Xu et al. 2015, section 3.1.1)
GRID_SIZE = (14, 14)


class Normalization(NamedTuple):
    """The input that a network was trained with: x = (rgb - mean) / std, on the 0..255 scale."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a network ends for inputs of these sizes, in pixels.

    feature_dim: D. stride: the side of a cell, in pixels.
    """

    sizes: range
    feature_dim: int
    stride: int


@dataclass(frozen=True, slots=True)
class EncoderGrid:
    """What is known of one encoder without its layers.

    cuts: one for each stride.
    offset_pixels: where the first cell begins, from the left and top edges: convolutions without
        padding see the rim only from inside.
    """

    normalization: Normalization
    cuts: tuple[Cut, ...]
    offset_pixels: float


class Sight(NamedTuple):
    """What a model sees: D features, tagger included, of each cell of a grid."""

    feature_dim: int
    grid: CellGrid


LITE_NORMALIZATION = Normalization((127.0,) * 3, (128.0,) * 3)

INCEPTION = EncoderGrid(
    normalization=Normalization((127.5,) * 3, (127.5,) * 3),
    cuts=(Cut(range(251, 267), feature_dim=768, stride=16),),
    # the first cell's center is pixel 21, by the strides and kernels without padding
    offset_pixels=13.5,
)

# Lite0's 7 x 7 cells each cover four of Inception's.
INCEPTION_AND_LITE0 = EncoderGrid(
    normalization=INCEPTION.normalization,
    cuts=(Cut(range(251, 252), feature_dim=768 + LITE0.stages[-1][1], stride=16),),
    offset_pixels=INCEPTION.offset_pixels,
)
FUSED_CROP = (13, 237)
"""The pixels that Lite0 sees beside Inception, 224 of 251: to half a pixel Inception's cells."""
FUSED_SCALE = 1 / 12
"""Lite0's values spread 12 times as wide as Inception's; one layer norm weighs both."""

TINY = EncoderGrid(
    normalization=Normalization((127.5,) * 3, (127.5,) * 3),
    cuts=(Cut(range(53, 57), feature_dim=64, stride=4),),
    offset_pixels=0.0,
)

GRIDS = {
    "inception_v3": INCEPTION,
    "inception_v3+efficientnet_lite0": INCEPTION_AND_LITE0,
    "tiny": TINY,
}
"""By the names of encoders in configurations."""

TORCHVISION = "torchvision/"
"""What the names of torchvision's classifiers begin with."""

_ENCODER = re.compile(rf"({TORCHVISION})?[a-z0-9_+]+")


def find_cut(name: str, cuts: Sequence[Cut], size_pixels: int) -> Cut:
    """Find the cut of encoder `name` for inputs of that size.

    Raises ConfigError where its map would not be 14 x 14.
    """
    for cut in cuts:
        if size_pixels in cut.sizes:
            return cut
    ranges = [cut.sizes for cut in cuts]
    right = " or ".join(f"{s[0]} to {s[-1]}" if len(s) > 1 else f"{s[0]}" for s in ranges)
    raise ConfigError(
        f"Encoder {name!r} has a 14 x 14 map for {right} pixels, not for {size_pixels}."
    )


def locate_grid(stride: int, offset_pixels: float, size_pixels: int) -> CellGrid:
    """Locate the grid of square cells on any image, for inputs of that size."""
    rows, columns = GRID_SIZE
    side = stride / size_pixels
    first = offset_pixels / size_pixels
    return CellGrid(rows, columns, Box(first, first, first + columns * side, first + rows * side))


def check_encoder(name: str) -> None:
    """Raise ConfigError where no encoder can be called so."""
    if not _ENCODER.fullmatch(name):
        raise ConfigError(f"No encoder is called {name!r}.")


def check_tags(config: ModelConfig) -> None:
    """Raise ConfigError where the decoder attends to tags that nothing finds."""
    attends = isinstance(config.decoder, AttentionConfig) and config.decoder.tags
    if attends and config.tagger is None:
        raise ConfigError("The decoder attends to tags, and there is no tagger that finds any.")


def sight_of(config: ModelConfig) -> Sight | None:
    """Tell what a model of `GRIDS` sees; None for another.

    Raises ConfigError where the configuration contradicts itself.
    """
    known = GRIDS.get(config.encoder)
    if known is None:
        return None
    size_pixels = config.encoder_pixels or config.preprocess.size_pixels
    cut = find_cut(config.encoder, known.cuts, size_pixels)
    check_tags(config)
    tagger_dim = 0 if config.tagger is None else LITE2.stages[-1][1]
    grid = locate_grid(cut.stride, known.offset_pixels, size_pixels)
    return Sight(cut.feature_dim + tagger_dim, grid)
