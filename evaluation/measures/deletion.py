"""Whether a word hangs on what its map shows: the deletion test. Knows no boxes and no training.

For content words of the model's own caption, a tenth of the picture's cells is grayed out: those
with the highest alpha of that word, as many at random, or as many about the centre. The same
caption is read again (teacher forcing) on each of the three pictures, and the fall of the word's
log-probability is measured, in nats: if the map shows what the word hangs on, the first fall is the
greatest. A cell is a square of the input as wide as the encoder's stride; what the encoder sees of
it reaches further. After Petsiuk et al. 2018 ("RISE", the deletion metric), with one step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from evaluation.captioning import prepare_photo
from evaluation.measures.attention_maps import (
    centered_gaussian,
    describe_score,
    ratio_score,
    sums_by_photo,
)
from evaluation.metrics.score import Score, Values
from models.calibration import FUNCTION_WORDS
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.geometry import CellGrid
from training.data.batching import seeded
from training.data.datasets import CaptionedImage, DataError

__all__ = [
    "SHARE_OF_CELLS",
    "Deletion",
    "LogprobDrop",
    "content_positions",
    "gray_out",
    "highest_cells",
    "measure_deletion",
]

SHARE_OF_CELLS = 0.1
_EVERY = 10  # photos, from the first on
_WORDS = 3  # of a caption at most, drawn where it has more
_SEED = 0
_KINDS = ("highest", "random", "centre")
# Content of a caption's confidence (a person says "two" or does not), and not of this test: words
# that only count, place, negate or help a verb name no thing that could be grayed out.
_MORE_FUNCTION_WORDS = (
    "after all any back before both do does doing every few five four front had has have having "
    "herself himself if "
    "lot many next no nor not one several side some someone something then three together top two "
    "very when"
)
_LEFT_OUT = FUNCTION_WORDS.union(_MORE_FUNCTION_WORDS.split())


class LogprobDrop(NamedTuple):
    """One word: photo by number, the word, its log-probability, and how far each deletion makes
    it fall, in nats."""

    photo: int
    word: str
    logprob: float
    highest: float
    random: float
    centre: float


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was measured on `photos` photos, every `every`-th of a set, `cells` of `locations`
    deleted at a time."""

    photos: int
    cells: int
    locations: int
    drops: tuple[LogprobDrop, ...]
    every: int = 1

    def score(self, kind: str) -> Score:
        """The mean fall after one kind of deletion ("highest", "random", "centre"), to be
        resampled by photo."""
        return ratio_score(f"fall, {kind}", self._sums(kind), self._sums(None))

    def excess(self, kind: str) -> Score:
        """How much further a word drops without its highest cells than after another kind of
        deletion, in nats."""
        return ratio_score(
            f"highest less {kind}", self._sums("highest") - self._sums(kind), self._sums(None)
        )

    def describe(self) -> dict[str, Any]:
        """All scores with their 95 % intervals over photos, as JSON takes them."""
        return {
            "photos": self.photos,
            "words": len(self.drops),
            "cells": self.cells,
            "locations": self.locations,
            "every": self.every,
            "words_a_photo": _WORDS,
            "seed": _SEED,
            **{kind: describe_score(self.score(kind)) for kind in _KINDS},
            **{f"highest_less_{kind}": describe_score(self.excess(kind)) for kind in _KINDS[1:]},
            "highest_over_random": describe_score(
                ratio_score("highest over random", self._sums("highest"), self._sums("random"))
            ),
        }

    def _sums(self, field: str | None) -> Values:
        return sums_by_photo(self.drops, field, self.photos)


def measure_deletion(
    captioner: NetworkCaptioner,
    photos: Sequence[CaptionedImage],
    *,
    every: int = _EVERY,
    options: DecodingOptions | None = None,
    advance: Callable[[int], Any] = lambda _: None,
) -> Deletion:
    """Measure every `every`-th of the photos, from the first on, at most three content words of
    each.

    options: how captions are searched for; else as the model's own configuration has it. advance:
    is told how many photos are done. Costs up to eight passes of the encoder a photo. Raises
    DataError where a photo cannot be read, and where no caption has a content word.
    """
    chosen = photos[::every]
    test = _DeletionTest(captioner, options or captioner.info.config.decoding)
    drops: list[LogprobDrop] = []
    for number, photo in enumerate(chosen):
        drops += test(number, torch.from_numpy(prepare_photo(captioner, photo).pixels))
        advance(1)
    if not drops:
        raise DataError(
            f"No caption of {len(chosen)} photos has a content word; nothing could be deleted."
        )
    return Deletion(len(chosen), test.count, len(test.gaussian), tuple(drops), every)


def content_positions(words: Sequence[str]) -> list[int]:
    """Where a caption's content words stand: all words but articles, pronouns, prepositions,
    auxiliaries and the like.

    What says only where or how many ("next", "two", "several") is no content word either.
    """
    return [position for position, word in enumerate(words) if word not in _LEFT_OUT]


def highest_cells(alpha: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The `count` cells (count,) of a map (L,) with the highest alpha, equal ones in random order.

    Of an even map they are random cells, and of a one-hot map all but one.
    """
    shuffled = torch.randperm(len(alpha), generator=generator)
    return shuffled[alpha[shuffled].argsort(descending=True, stable=True)[:count]]


def gray_out(pixels: Tensor, cells: Tensor, grid: CellGrid, gray: Sequence[float]) -> Tensor:
    """Give pixels (3, S, S) uint8 the color `gray` (0 to 255, a number a channel, rounded) inside
    some cells (N,).

    A pixel is in the cell in which its centre lies.
    """
    numbers = _cell_numbers(pixels.shape[-1], grid)
    color = torch.tensor(gray).round().to(pixels.dtype).view(3, 1, 1)
    return torch.where(torch.isin(numbers, cells), color, pixels)


def _cell_numbers(size: int, grid: CellGrid) -> Tensor:
    """The cell in which each pixel lies: (S, S), -1 in the rim that no cell sees."""
    columns, rows = (
        torch.from_numpy(places).floor().long() for places in grid.locate_pixels(size, size)
    )
    inside = ((rows >= 0) & (rows < grid.rows)).unsqueeze(1) & (
        (columns >= 0) & (columns < grid.columns)
    )
    return torch.where(inside, rows.unsqueeze(1) * grid.columns + columns, -1)


class _DeletionTest:
    """Captions one picture, deletes, and reads again."""

    def __init__(self, captioner: NetworkCaptioner, options: DecodingOptions) -> None:
        self.captioner, self.options = captioner, options
        self.grid = captioner.grid
        self.gaussian = centered_gaussian(self.grid)
        self.count = max(1, round(SHARE_OF_CELLS * len(self.gaussian)))

    @torch.inference_mode()
    def __call__(self, number: int, pixels: Tensor) -> list[LogprobDrop]:
        """Measure the words of photo `number`, pixels (3, S, S) uint8."""
        annotations = self.captioner.encode_pixels(pixels.unsqueeze(0))
        (caption,) = self.captioner.caption_annotations(annotations, self.options)
        words = [word.text for word in caption.best.words]
        generator = seeded(_SEED, number)
        positions = content_positions(words)
        order = torch.randperm(len(positions), generator=generator).tolist()
        positions = sorted(positions[index] for index in order[:_WORDS])
        if not positions:
            return []
        cells = [highest_cells(self.gaussian, self.count, generator)]
        for position in positions:
            alpha = torch.from_numpy(caption.best.words[position].alpha).flatten()
            cells.append(highest_cells(alpha, self.count, generator))
            cells.append(torch.randperm(len(self.gaussian), generator=generator)[: self.count])
        gray = self.captioner.info.config.preprocess.mean
        pictures = torch.stack([gray_out(pixels, each, self.grid, gray) for each in cells])
        read = self._read(torch.cat([annotations, self.captioner.encode_pixels(pictures)]), words)
        centre, *others = (
            read[0] - each for each in read[1:]
        )  # nats (T,) each; two others of each word
        return [
            LogprobDrop(
                number,
                words[position],
                logprob=float(read[0][position]),
                highest=float(others[2 * index][position]),
                random=float(others[2 * index + 1][position]),
                centre=float(centre[position]),
            )
            for index, position in enumerate(positions)
        ]

    def _read(self, annotations: Tensor, words: Sequence[str]) -> Tensor:
        """Give log-probabilities (B, T) of the words on each image of annotations (B, L, D)."""
        ids = self.captioner.token_ids(words)
        scores = self.captioner.score_tokens(annotations, [[ids]] * len(annotations))
        return torch.from_numpy(np.stack([captions[0].logprobs for captions in scores]))
