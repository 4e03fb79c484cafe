"""Whether a word hangs on what its map shows: the deletion test.

For content words of the model's own caption, a tenth of the image's cells is grayed out: those with
the highest alpha of that word, as many at random, or as many about the center. The same caption is
read again (teacher forcing) on each of the three images, and the drop of the word's log-probability
is measured, in nats: if the map shows what the word hangs on, the first drop is the greatest. A
cell is a square of the input as wide as the encoder's stride; what the encoder sees of it reaches
further. After Petsiuk et al. 2018 ("RISE", the deletion metric), with one step. Knows no boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evaluation.captioning import Advance, no_progress, prepare_image
from evaluation.map_results import DeletionResult
from evaluation.measures.attention_maps import centered_gaussian, sums_by_image
from evaluation.measures.bootstrap import estimate
from evaluation.metrics.score import Score, Values, ratio_score
from models.calibration import FUNCTION_WORDS
from models.caption import Caption
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.features import ImageFeatures
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

# Every so many images are taken, from the first on.
_EVERY = 10
# Of a caption at most so many words are taken, drawn where it has more.
_WORDS = 3
_SEED = 0
# Content of a caption's confidence (a person says "two" or does not), and not of this test: words
# that only count, place, negate or help a verb name no thing that could be grayed out.
_MORE_FUNCTION_WORDS = (
    "after all any back before both do does doing every few five four front had has have having "
    "herself himself if lot many next no nor not one several side some someone something then "
    "three together top two very when"
)
_LEFT_OUT = FUNCTION_WORDS.union(_MORE_FUNCTION_WORDS.split())


class LogprobDrop(NamedTuple):
    """One word of an image, and how far each deletion makes its log-probability drop, in nats.

    image: by number, from 0. logprob: with nothing deleted.
    """

    image: int
    word: str
    logprob: float
    highest: float
    random: float
    center: float


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was measured on `images` images, every `every`-th of a set.

    `cells` of `locations` were deleted at a time.
    """

    images: int
    cells: int
    locations: int
    drops: tuple[LogprobDrop, ...]
    every: int = 1

    def score(self, kind: str) -> Score:
        """Score one kind of deletion ("highest", "random", "center"): the mean drop."""
        return ratio_score(f"drop, {kind}", self._sums(kind), self._sums(None))

    def excess(self, kind: str) -> Score:
        """Score how much further words drop without their highest cells than after `kind`."""
        totals = self._sums("highest") - self._sums(kind)
        return ratio_score(f"highest less {kind}", totals, self._sums(None))

    def describe(self, set_name: str) -> DeletionResult:
        """Give all scores with their 95 % intervals over images."""
        over_random = ratio_score(
            "highest over random", self._sums("highest"), self._sums("random")
        )
        return DeletionResult(
            set_name=set_name,
            images=self.images,
            words=len(self.drops),
            cells=self.cells,
            locations=self.locations,
            every=self.every,
            words_per_image=_WORDS,
            seed=_SEED,
            highest=estimate(self.score("highest")),
            random=estimate(self.score("random")),
            center=estimate(self.score("center")),
            highest_less_random=estimate(self.excess("random")),
            highest_less_center=estimate(self.excess("center")),
            highest_over_random=estimate(over_random),
        )

    def _sums(self, field: str | None) -> Values:
        return sums_by_image(self.drops, field, self.images)


def measure_deletion(
    captioner: NetworkCaptioner,
    images: Sequence[CaptionedImage],
    *,
    every: int = _EVERY,
    options: DecodingOptions | None = None,
    advance: Advance = no_progress,
) -> Deletion:
    """Measure every `every`-th of the images, at most three content words of each.

    options: of the search; by default those of the model's configuration. Costs up to eight passes
    of the encoder an image. Raises DataError where an image cannot be read, and where no caption
    has a content word.
    """
    chosen = images[::every]
    test = _DeletionTest(captioner, options or captioner.info.config.decoding)
    drops: list[LogprobDrop] = []
    for number, image in enumerate(chosen):
        drops += test(number, torch.from_numpy(prepare_image(captioner, image).pixels))
        advance(1)
    if not drops:
        raise DataError(
            f"No caption of {len(chosen)} photos has a content word; nothing could be deleted."
        )
    return Deletion(len(chosen), test.count, len(test.gaussian), tuple(drops), every)


def content_positions(words: Sequence[str]) -> list[int]:
    """Find where a caption's content words stand.

    No content words are articles, pronouns, prepositions, auxiliaries and the like, nor words that
    say only where or how many ("next", "two", "several").
    """
    return [position for position, word in enumerate(words) if word not in _LEFT_OUT]


def highest_cells(alpha: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Give the `count` cells (count,) of a map (L,) with the highest alpha.

    Equal ones come in random order: of an even map, the cells are random, and of a one-hot map all
    but one.
    """
    shuffled = torch.randperm(len(alpha), generator=generator)
    return shuffled[alpha[shuffled].argsort(descending=True, stable=True)[:count]]


def gray_out(pixels: Tensor, cells: Tensor, grid: CellGrid, gray: Sequence[float]) -> Tensor:
    """Give pixels (3, S, S) uint8 the color `gray` inside some cells (N,).

    gray: 0 to 255, a number a channel, rounded. A pixel is in the cell in which its center lies.
    """
    numbers = _cell_numbers(pixels.shape[-1], grid)
    color = torch.tensor(gray).round().to(pixels.dtype).view(3, 1, 1)
    return torch.where(torch.isin(numbers, cells), color, pixels)


def _cell_numbers(size: int, grid: CellGrid) -> Tensor:
    """Give the cell in which each pixel lies: (S, S), -1 in the rim that no cell sees."""
    x, y = grid.locate_pixels(size, size)
    columns = torch.from_numpy(x).floor().long()
    rows = torch.from_numpy(y).floor().long()
    inside_rows = (rows >= 0) & (rows < grid.rows)
    inside_columns = (columns >= 0) & (columns < grid.columns)
    inside = inside_rows.unsqueeze(1) & inside_columns
    return torch.where(inside, rows.unsqueeze(1) * grid.columns + columns, -1)


class _DeletionTest:
    """Captions one image, deletes cells, and reads the caption again."""

    def __init__(self, captioner: NetworkCaptioner, options: DecodingOptions) -> None:
        self.captioner = captioner
        self.options = options
        self.grid = captioner.grid
        self.gaussian = centered_gaussian(self.grid)
        self.count = max(1, round(SHARE_OF_CELLS * len(self.gaussian)))

    @torch.inference_mode()
    def __call__(self, number: int, pixels: Tensor) -> list[LogprobDrop]:
        """Measure the words of image `number`, pixels (3, S, S) uint8."""
        features = self.captioner.encode_pixels(pixels.unsqueeze(0))
        (caption,) = self.captioner.caption_features(features, self.options)
        words = [word.text for word in caption.best.words]
        generator = seeded(_SEED, number)
        positions = _draw_positions(words, generator)
        if not positions:
            return []
        gray = self.captioner.info.config.preprocess.mean
        deleted = [
            gray_out(pixels, cells, self.grid, gray)
            for cells in self._choose_cells(caption, positions, generator)
        ]
        encoded = self.captioner.encode_pixels(torch.stack(deleted))
        logprobs = self._read(ImageFeatures.join([features, encoded]), words)
        whole = logprobs[0]
        # In nats, (T,) each: without the central cells, then two of each word.
        center, *others = (whole - each for each in logprobs[1:])
        return [
            LogprobDrop(
                number,
                words[position],
                logprob=float(whole[position]),
                highest=float(others[2 * index][position]),
                random=float(others[2 * index + 1][position]),
                center=float(center[position]),
            )
            for index, position in enumerate(positions)
        ]

    def _choose_cells(
        self, caption: Caption, positions: Sequence[int], generator: torch.Generator
    ) -> list[Tensor]:
        """Choose cells (count,): the central ones, then each word's highest and random ones."""
        cells = [highest_cells(self.gaussian, self.count, generator)]
        for position in positions:
            alpha = torch.from_numpy(caption.best.words[position].alpha).flatten()
            cells.append(highest_cells(alpha, self.count, generator))
            cells.append(torch.randperm(len(self.gaussian), generator=generator)[: self.count])
        return cells

    def _read(self, features: ImageFeatures, words: Sequence[str]) -> Tensor:
        """Give log-probabilities (B, T) of the words on each image."""
        ids = self.captioner.token_ids(words)
        scores = self.captioner.score_tokens(features, [[ids]] * len(features))
        return torch.from_numpy(np.stack([captions[0].logprobs for captions in scores]))


def _draw_positions(words: Sequence[str], generator: torch.Generator) -> list[int]:
    """Draw the content words that are measured: their positions, in order."""
    positions = content_positions(words)
    order = torch.randperm(len(positions), generator=generator).tolist()
    return sorted(positions[index] for index in order[:_WORDS])
