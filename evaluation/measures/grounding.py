"""Whether the maps lie on what the words name: attention correctness, and pointing. Knows no
training.

Two measures, with the same numbers beside an even map and a centered Gaussian:

- correctness: over the captions that people wrote, teacher-forced, for each noun phrase that has
  boxes (Flickr30k Entities; Liu et al. 2017, "Attention Correctness in Neural Image Captioning");
- pointing: over the captions that the model wrote itself, for each word that names the category of
  a boxed object (the boxes of COCO), looked for in all boxes of that category.

mass: of a word's map inside the union of the boxes, the mean over the phrase's words.
best_word_mass: that of the word with the most, as the code published with Liu et al. scores a
phrase. peak: how often the highest cell's center lies in a box, the mean over the phrase's words.
last_word_peak: that of the phrase's last word, mostly its noun. Liu et al. score the phrases of the
model's own captions that some person used word for word; here all models are measured on the same
phrases.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from evaluation.measures.attention_maps import (
    Annotate,
    annotator,
    centered_gaussian,
    centers_inside,
    describe_score,
    forced_alphas,
    peak_inside,
    ratio_score,
    sums_by_photo,
)
from evaluation.metrics.coco_categories import categories_of
from evaluation.metrics.score import Score, Values
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.geometry import Box, CellGrid
from training.data.datasets import CaptionedImage, DataError
from training.data.flickr30k_entities import GroundedCaption, Phrase

__all__ = ["Grounding", "PhraseScore", "measure_correctness", "measure_pointing", "read_objects"]

_BATCH_SIZE = 16
_CENTRE = (0.5, 0.5)


class PhraseScore(NamedTuple):
    """How well the maps of one phrase lie: photo and caption by number, from 0, and the measures,
    each in [0, 1].

    share: of the grid's area, what the boxes cover; it is the even map's mass. gaussian_peak:
    whether the picture's exact center is inside, which is the center of no cell of an even grid.
    gaussian_cells_peak: the share of the cells around it whose centers are, by the rule for maps.
    """

    photo: int
    caption: int
    phrase: Phrase
    mass: float
    best_word_mass: float
    peak: float
    last_word_peak: float
    share: float
    even_peak: float
    gaussian_mass: float
    gaussian_peak: float
    gaussian_cells_peak: float


_MEASURES = {
    "model": {name: name for name in ("mass", "best_word_mass", "peak", "last_word_peak")},
    "uniform": {"mass": "share", "peak": "even_peak"},
    "gaussian": {
        "mass": "gaussian_mass",
        "peak": "gaussian_peak",
        "cells_peak": "gaussian_cells_peak",
    },
}


@dataclass(frozen=True, slots=True)
class Grounding:
    """What was measured over `photos` photos: every look, and how many named things had no box
    to be looked for in."""

    photos: int
    looks: tuple[PhraseScore, ...]
    without_box: int = 0

    def score(self, whose: str, measure: str) -> Score:
        """A measure of "model", "uniform" or "gaussian" as the mean over all looks, to be
        resampled by photo."""
        return ratio_score(
            f"{whose} {measure}", self._sums(_MEASURES[whose][measure]), self._sums(None)
        )

    def peak_ratio(self) -> Score:
        """How many times as often as the Gaussian's the model's peak is inside."""
        return ratio_score("peak over gaussian", self._sums("peak"), self._sums("gaussian_peak"))

    def describe(self) -> dict[str, Any]:
        """All scores with their 95 % intervals over photos, as JSON takes them."""
        return {
            "photos": int((self._sums(None) > 0).sum()),
            "looks": len(self.looks),
            "without_box": self.without_box,
            **{
                whose: {measure: describe_score(self.score(whose, measure)) for measure in measures}
                for whose, measures in _MEASURES.items()
            },
            "peak_over_gaussian": describe_score(self.peak_ratio()),
        }

    def _sums(self, field: str | None) -> Values:
        return sums_by_photo(self.looks, field, self.photos)


def measure_correctness(
    captioner: NetworkCaptioner,
    photos: Sequence[CaptionedImage],
    grounding: Mapping[str, tuple[GroundedCaption, ...]],
    *,
    annotate: Annotate | None = None,
    advance: Callable[[int], Any] = lambda _: None,
) -> Grounding:
    """Measure the maps of people's captions: `grounding` is by the photos' keys
    (`training.data.flickr30k_entities`).

    annotate: encodes photos, where it is not to be the captioner itself. advance: is told how many
    photos are done. Raises DataError where a photo is not in `grounding` or cannot be read, and
    where no phrase has a box.
    """
    annotate, measure = annotate or annotator(captioner), _Measure(captioner.grid)
    looks: list[PhraseScore] = []
    for start in range(0, len(photos), _BATCH_SIZE):
        batch = photos[start : start + _BATCH_SIZE]
        captions = [_grounded(photo, grounding) for photo in batch]
        maps = forced_alphas(
            captioner, annotate(batch), [[each.tokens for each in own] for own in captions]
        )
        for photo, (own, alphas) in enumerate(zip(captions, maps, strict=True), start=start):
            for number, caption in enumerate(own):
                looks += [
                    measure(photo, number, phrase, alphas[number]) for phrase in caption.phrases
                ]
        advance(len(batch))
    return _checked(Grounding(len(photos), tuple(looks)))


def measure_pointing(
    captioner: NetworkCaptioner,
    photos: Sequence[CaptionedImage],
    objects: Mapping[str, Mapping[str, tuple[Box, ...]]],
    *,
    options: DecodingOptions | None = None,
    annotate: Annotate | None = None,
    advance: Callable[[int], Any] = lambda _: None,
) -> Grounding:
    """Measure the maps of the model's own captions on words that name a boxed object
    (`evaluation.metrics.coco_categories`).

    objects: of each photo by its key, the boxes of each category (`read_objects`). A name of two
    words is measured at its last. options: how captions are searched for; else as the model's own
    configuration has it. Raises DataError where a photo cannot be read, and where no caption names
    a boxed object.
    """
    annotate, measure = annotate or annotator(captioner), _Measure(captioner.grid)
    looks: list[PhraseScore] = []
    without_box = 0
    for start in range(0, len(photos), _BATCH_SIZE):
        batch = photos[start : start + _BATCH_SIZE]
        captions = captioner.caption_annotations(
            annotate(batch), options or captioner.info.config.decoding
        )
        for photo, caption in enumerate(captions, start=start):
            words, boxes = caption.best.words, objects.get(photos[photo].key, {})
            alphas = torch.from_numpy(np.stack([word.alpha.reshape(-1) for word in words]))
            for position, category in categories_of([word.text for word in words]):
                if category in boxes:
                    phrase = Phrase(position, position + 1, boxes[category])
                    looks.append(measure(photo, 0, phrase, alphas))
                else:
                    without_box += 1
        advance(len(batch))
    return _checked(Grounding(len(photos), tuple(looks), without_box))


def read_objects(path: Path) -> dict[str, dict[str, tuple[Box, ...]]]:
    """Read COCO's `instances.json`: by file name and category, the boxes in fractions of the
    picture.

    Boxes of crowds count like others. Raises DataError where the file cannot be read or is not of
    that form.
    """
    try:
        document = json.loads(path.read_bytes())
        names = {category["id"]: category["name"] for category in document["categories"]}
        images = {image["id"]: image for image in document["images"]}
        found: dict[str, dict[str, list[Box]]] = {
            image["file_name"]: {} for image in images.values()
        }
        for annotation in document["annotations"]:
            image, name = images[annotation["image_id"]], names[annotation["category_id"]]
            x, y, width, height = annotation["bbox"]
            across, down = image["width"], image["height"]
            box = Box(
                x / across, y / down, min((x + width) / across, 1.0), min((y + height) / down, 1.0)
            )
            found[image["file_name"]].setdefault(name, []).append(box)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise DataError(f"{path} is not in COCO's layout of instances (at {error}).") from error
    return {
        key: {name: tuple(boxes) for name, boxes in each.items()} for key, each in found.items()
    }


class _Measure:
    """Measures the maps of one phrase against its boxes, on one grid."""

    def __init__(self, grid: CellGrid) -> None:
        self.grid = grid
        self.gaussian = centered_gaussian(grid)

    def __call__(self, photo: int, caption: int, phrase: Phrase, alphas: Tensor) -> PhraseScore:
        """alphas (T, L): the maps of the whole caption."""
        words = alphas[phrase.start : phrase.end]
        shares = torch.from_numpy(self.grid.coverage(phrase.boxes))
        inside = centers_inside(phrase.boxes, self.grid)
        masses, peaks = words @ shares, peak_inside(words, inside)
        x, y = _CENTRE
        middle = any(
            left <= x <= right and top <= y <= bottom for left, top, right, bottom in phrase.boxes
        )
        return PhraseScore(
            photo,
            caption,
            phrase,
            mass=float(masses.mean()),
            best_word_mass=float(masses.max()),
            peak=float(peaks.mean()),
            last_word_peak=float(peaks[-1]),
            share=float(shares.mean()),
            even_peak=float(inside.mean()),
            gaussian_mass=float(self.gaussian @ shares),
            gaussian_peak=float(middle),
            gaussian_cells_peak=float(peak_inside(self.gaussian.unsqueeze(0), inside)),
        )


def _grounded(
    photo: CaptionedImage, grounding: Mapping[str, tuple[GroundedCaption, ...]]
) -> tuple[GroundedCaption, ...]:
    if photo.key not in grounding:
        raise DataError(f"{photo.key} is not among the grounded captions; measure photos that are.")
    return grounding[photo.key]


def _checked(grounding: Grounding) -> Grounding:
    if not grounding.looks:
        raise DataError(
            f"Nothing in {grounding.photos} photos could be measured: no word has a box."
        )
    return grounding
