"""What every measure of the maps needs: maps to compare with, and the maps of given captions.

B images, G captions of each, T time, L locations, D encoder features. Knows no file of boxes and no
results.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from evaluation.metrics.score import Values
from models.array_features import Features
from models.captioner import NetworkCaptioner
from models.geometry import Box, CellGrid

__all__ = [
    "OfImage",
    "centered_gaussian",
    "centers_inside",
    "forced_alphas",
    "peak_inside",
    "sums_by_image",
]

# Of the image's width and height: two standard deviations reach its edge.
_GAUSSIAN_SIGMA = 0.25
# Cells this close to the highest one, relative to it, are the highest too.
_TIE = 1e-6


def centered_gaussian(grid: CellGrid) -> Tensor:
    """Give the map (L,) that always favors the middle: a Gaussian about the image's center.

    Its standard deviation is a quarter of the image's width across, and of its height down. Sums
    to 1.
    """
    across, down = map(torch.from_numpy, grid.centers())
    heights = torch.exp(-(((across - 0.5) ** 2) + (down - 0.5) ** 2) / (2 * _GAUSSIAN_SIGMA**2))
    return (heights / heights.sum()).float()


def centers_inside(boxes: Sequence[Box], grid: CellGrid) -> Tensor:
    """Tell whether each cell's center lies in any of the boxes: (L,) float32, 0 or 1."""
    across, down = map(torch.from_numpy, grid.centers())
    inside = torch.zeros_like(across, dtype=torch.bool)
    for left, top, right, bottom in boxes:
        inside |= (left <= across) & (across <= right) & (top <= down) & (down <= bottom)
    return inside.float()


def peak_inside(alphas: Tensor, inside: Tensor) -> Tensor:
    """Tell how often the highest cell of each map is inside: alphas (T, L), inside (L,) to (T,).

    Of several highest cells, the share that is inside counts, so that the peak of an even map is
    anywhere. In [0, 1].
    """
    highest = alphas >= (1 - _TIE) * alphas.max(dim=1, keepdim=True).values
    return (highest * inside).sum(dim=1) / highest.sum(dim=1)


def forced_alphas(
    captioner: NetworkCaptioner,
    features: Features,
    captions: Sequence[Sequence[Sequence[str]]],
) -> list[list[Tensor]]:
    """Give the maps (T, L) of given captions, by image, read by teacher forcing.

    captions: of each image, lists of tokens. The map of a word is that from
    which it was predicted. Unknown words are read as unk.
    """
    ids = [[captioner.token_ids(tokens) for tokens in each] for each in captions]
    scores = captioner.score_tokens(features, ids)
    return [[torch.from_numpy(caption.alphas) for caption in each] for each in scores]


class OfImage(Protocol):
    """Something that was measured on an image, given by its number from 0."""

    @property
    def image(self) -> int: ...  # noqa: D102


def sums_by_image(measured: Sequence[OfImage], field: str | None, images: int) -> Values:
    """Sum one field of what was measured, image by image: (images,). Count it without a field."""
    places = np.array([each.image for each in measured], dtype=np.intp)
    values = [1.0 if field is None else getattr(each, field) for each in measured]
    weights = np.array(values, dtype=np.float64)
    return np.bincount(places, weights=weights, minlength=images).astype(np.float64)
