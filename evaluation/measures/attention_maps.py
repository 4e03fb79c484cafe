"""What every measure of the maps needs: where cells lie, the maps to compare with, the maps of
given captions.

B photos, G captions of each, T time, L locations, D encoder features. Knows no boxes' origin and no
results.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from evaluation.captioning import prepare_photo
from evaluation.measures.bootstrap import draw_resamples, interval
from evaluation.metrics.score import Score, Values
from models.captioner import NetworkCaptioner
from models.geometry import Box, CellGrid
from training.data.datasets import CaptionedImage, DataError

__all__ = [
    "Annotate",
    "OfPhoto",
    "annotator",
    "centered_gaussian",
    "centers_inside",
    "describe_score",
    "forced_alphas",
    "image_paths",
    "peak_inside",
    "ratio_score",
    "remembered",
    "sums_by_photo",
]

Annotate = Callable[[Sequence[CaptionedImage]], Tensor]
"""From photos to annotations (B, L, D) float32."""

_GAUSSIAN_SIGMA = 0.25  # of the picture's width and height: two of them reach its edge
_TIE = 1e-6  # cells this close to the highest, relative to it, are the highest too
_RESAMPLES, _SEED = 1000, 0
_DIGITS = 4


def annotator(captioner: NetworkCaptioner) -> Annotate:
    """Give the function that encodes photos as the service does; it raises DataError for one
    that cannot be read."""

    def annotate(photos: Sequence[CaptionedImage]) -> Tensor:
        return captioner.encode([prepare_photo(captioner, photo) for photo in photos])

    return annotate


def remembered(annotate: Annotate) -> Annotate:
    """Encode each photo once, however often it is asked for: for several models that have one
    encoder.

    Photos are known by their files, as keys are unique within a set alone. What is remembered is
    half precision: 0.3 MB a photo of 196 locations and 768 features.
    """
    known: dict[Path | None, Tensor] = {}

    def recall(photos: Sequence[CaptionedImage]) -> Tensor:
        new = [photo for photo in photos if photo.path not in known]
        if new:
            known.update(zip((photo.path for photo in new), annotate(new).half(), strict=True))
        return torch.stack([known[photo.path] for photo in photos]).float()

    return recall


def image_paths(photos: Sequence[CaptionedImage]) -> list[Path]:
    """The photos' files; raise DataError where one has none."""
    paths = [photo.path for photo in photos if photo.path is not None]
    if len(paths) < len(photos):
        missing = next(photo.key for photo in photos if photo.path is None)
        raise DataError(f"{missing} has captions and no picture; its maps cannot be measured.")
    return paths


def centered_gaussian(grid: CellGrid) -> Tensor:
    """The map (L,) of one who always looks at the middle: a Gaussian about the picture's center,
    sums to 1.

    Its standard deviation is a quarter of the picture's width across, and of its height down.
    """
    across, down = map(torch.from_numpy, grid.centers())
    heights = torch.exp(-(((across - 0.5) ** 2) + (down - 0.5) ** 2) / (2 * _GAUSSIAN_SIGMA**2))
    return (heights / heights.sum()).float()


def centers_inside(boxes: Sequence[Box], grid: CellGrid) -> Tensor:
    """Whether each cell's center lies in any of the boxes: (L,) float32, 0 or 1."""
    across, down = map(torch.from_numpy, grid.centers())
    inside = torch.zeros_like(across, dtype=torch.bool)
    for left, top, right, bottom in boxes:
        inside |= (left <= across) & (across <= right) & (top <= down) & (down <= bottom)
    return inside.float()


def peak_inside(alphas: Tensor, inside: Tensor) -> Tensor:
    """How often the highest cell of each map is inside: alphas (T, L), inside (L,) to (T,) in [0,
    1].

    Of several highest cells the share that is inside counts: an even map's peak is anywhere.
    """
    highest = alphas >= (1 - _TIE) * alphas.max(dim=1, keepdim=True).values
    return (highest * inside).sum(dim=1) / highest.sum(dim=1)


def forced_alphas(
    captioner: NetworkCaptioner, annotations: Tensor, captions: Sequence[Sequence[Sequence[str]]]
) -> list[list[Tensor]]:
    """Give the maps (T, L) of given captions, by image, each word read after the true ones before.

    annotations (B, L, D); captions: of each image, lists of tokens. The map of a word is that from
    which it was predicted. Unknown words are read as unk.
    """
    ids = [[captioner.token_ids(tokens) for tokens in each] for each in captions]
    scores = captioner.score_tokens(annotations, ids)
    return [[torch.from_numpy(caption.alphas) for caption in each] for each in scores]


class OfPhoto(Protocol):
    """Something that was measured on a photo, by number from 0."""

    @property
    def photo(self) -> int: ...  # noqa: D102


def sums_by_photo(measured: Sequence[OfPhoto], field: str | None, photos: int) -> Values:
    """Sum one field of what was measured, or count it where there is no field, photo by photo:
    (photos,)."""
    places = np.array([each.photo for each in measured], dtype=np.intp)
    values = np.array(
        [1.0 if field is None else getattr(each, field) for each in measured], dtype=np.float64
    )
    return np.bincount(places, weights=values, minlength=photos).astype(np.float64)


def ratio_score(name: str, totals: Values, counts: Values) -> Score:
    """Score by the sum of `totals` over that of `counts`, (photos,) each; nan where nothing was
    counted."""
    return Score.of(name, np.stack([totals, counts], axis=-1), _ratio)


def describe_score(score: Score) -> dict[str, float | None]:
    """Give a score's value, and the low and high end of its 95 % interval over photos, as JSON
    takes them: None where too few photos count."""
    around = interval(score, draw_resamples(len(score.per_photo), _RESAMPLES, _SEED))
    ends = {"value": score.value, **asdict(around)}
    return {name: round(end, _DIGITS) if math.isfinite(end) else None for name, end in ends.items()}


def _ratio(sums: Values) -> Values:
    totals, counts = sums[..., 0], sums[..., 1]
    ratios: Values = np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts != 0)
    return ratios
