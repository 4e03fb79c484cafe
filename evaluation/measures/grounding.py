"""Whether the maps lie on what the words name: attention correctness, and pointing.

Two measures, with the same numbers beside an even map and a centered Gaussian:

- correctness: over the captions that people wrote, teacher-forced, for each noun phrase that has
  boxes (Flickr30k Entities; Liu et al. 2017, "Attention Correctness in Neural Image Captioning");
- pointing: over the captions that the model wrote itself, for each word that names the category of
  a boxed object (the boxes of COCO), against all boxes of that category.

mass: of a word's map inside the union of the boxes, the mean over the phrase's words.
best_word_mass: that of the word with the most, as the code published with Liu et al. scores a
phrase. peak: how often the highest cell's center lies in a box, the mean over the phrase's words.
last_word_peak: that of the phrase's last word, mostly its noun. Liu et al. score the phrases of the
model's own captions that some person used word for word; here all models are measured on the same
phrases. Knows no Markdown.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evaluation.captioning import Advance, Encode, batches, image_encoder, no_progress
from evaluation.map_results import EvenMapScores, GaussianMapScores, GroundingResult, MapScores
from evaluation.measures.attention_maps import (
    centered_gaussian,
    centers_inside,
    forced_alphas,
    peak_inside,
    sums_by_image,
)
from evaluation.measures.bootstrap import estimate
from evaluation.metrics.coco_categories import categories_of
from evaluation.metrics.score import Score, Values, ratio_score
from evaluation.records import Estimate
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.geometry import Box, CellGrid
from training.data.datasets import CaptionedImage, DataError
from training.data.flickr30k_entities import GroundedCaption, Phrase

__all__ = ["Grounding", "PhraseScore", "measure_correctness", "measure_pointing", "read_objects"]

Boxes = Mapping[str, tuple[Box, ...]]
"""The boxes of an image's objects, by category."""

_CENTER = (0.5, 0.5)


class PhraseScore(NamedTuple):
    """How well the maps of one phrase lie; each measure is in [0, 1].

    image, caption: by number, from 0. share: of the grid's area, what the boxes cover; it is the
    even map's mass. gaussian_peak: whether the image's exact center is inside, which is the center
    of no cell of an even grid. gaussian_cells_peak: of the cells around it, the share whose centers
    are inside.
    """

    image: int
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


# Of each map that is measured, the field that holds each measure.
_FIELDS = {
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
    """What was measured over `images` images.

    without_box: how many named things had no box to be looked for in.
    """

    images: int
    phrases: tuple[PhraseScore, ...]
    without_box: int = 0

    def score(self, whose: str, measure: str) -> Score:
        """Score a measure of "model", "uniform" or "gaussian": the mean over all phrases."""
        totals = self._sums(_FIELDS[whose][measure])
        return ratio_score(f"{whose} {measure}", totals, self._sums(None))

    def peak_ratio(self) -> Score:
        """Score how many times as often as the Gaussian's the model's peak is inside."""
        return ratio_score("peak over gaussian", self._sums("peak"), self._sums("gaussian_peak"))

    def describe(self, set_name: str, left_out: int | None = None) -> GroundingResult:
        """Give all scores with their 95 % intervals over images.

        left_out: how many images of the set were not to be measured.
        """
        return GroundingResult(
            set_name=set_name,
            left_out=left_out,
            images=int((self._sums(None) > 0).sum()),
            phrases=len(self.phrases),
            without_box=self.without_box,
            model=MapScores(**self._estimates("model")),
            uniform=EvenMapScores(**self._estimates("uniform")),
            gaussian=GaussianMapScores(**self._estimates("gaussian")),
            peak_over_gaussian=estimate(self.peak_ratio()),
        )

    def _estimates(self, whose: str) -> dict[str, Estimate]:
        return {measure: estimate(self.score(whose, measure)) for measure in _FIELDS[whose]}

    def _sums(self, field: str | None) -> Values:
        return sums_by_image(self.phrases, field, self.images)


def measure_correctness(
    captioner: NetworkCaptioner,
    images: Sequence[CaptionedImage],
    grounding: Mapping[str, tuple[GroundedCaption, ...]],
    *,
    encode: Encode | None = None,
    advance: Advance = no_progress,
) -> Grounding:
    """Measure the maps of people's captions, which `grounding` gives by the images' keys.

    encode: encodes images in place of the captioner. Raises DataError where an image is not in
    `grounding` or cannot be read, and where no phrase has a box.
    """
    encode = encode or image_encoder(captioner)
    measure = _PhraseMeasure(captioner.grid)
    scores: list[PhraseScore] = []
    for start, batch in batches(images):
        captions = [_grounded(image, grounding) for image in batch]
        tokens = [[caption.tokens for caption in own] for own in captions]
        maps = forced_alphas(captioner, encode(batch), tokens)
        for image, (own, alphas) in enumerate(zip(captions, maps, strict=True), start=start):
            for number, caption in enumerate(own):
                for phrase in caption.phrases:
                    scores.append(measure(image, number, phrase, alphas[number]))
        advance(len(batch))
    return _checked(Grounding(len(images), tuple(scores)))


def measure_pointing(
    captioner: NetworkCaptioner,
    images: Sequence[CaptionedImage],
    objects: Mapping[str, Boxes],
    *,
    options: DecodingOptions | None = None,
    encode: Encode | None = None,
    advance: Advance = no_progress,
) -> Grounding:
    """Measure the maps of the model's own captions on words that name a boxed object.

    `evaluation.metrics.coco_categories` says which words name what; a name of two words is measured
    at its last. objects: of each image by its key, the boxes of each category (`read_objects`).
    options: of the search; by default those of the model's configuration. encode: encodes images in
    place of the captioner. Raises DataError where an image cannot be read, and where no caption
    names a boxed object.
    """
    encode = encode or image_encoder(captioner)
    options = options or captioner.info.config.decoding
    measure = _PhraseMeasure(captioner.grid)
    scores: list[PhraseScore] = []
    without_box = 0
    for start, batch in batches(images):
        captions = captioner.caption_features(encode(batch), options)
        for image, caption in enumerate(captions, start=start):
            words = caption.best.words
            boxes = objects.get(images[image].key, {})
            alphas = torch.from_numpy(np.stack([word.alpha.reshape(-1) for word in words]))
            for position, category in categories_of([word.text for word in words]):
                if category in boxes:
                    phrase = Phrase(position, position + 1, boxes[category])
                    scores.append(measure(image, 0, phrase, alphas))
                else:
                    without_box += 1
        advance(len(batch))
    return _checked(Grounding(len(images), tuple(scores), without_box))


def read_objects(path: Path) -> dict[str, dict[str, tuple[Box, ...]]]:
    """Read COCO's `instances.json`: by file name and category, boxes in fractions of the image.

    Boxes of crowds count like others. Raises DataError where the file cannot be read or has another
    form.
    """
    try:
        document = json.loads(path.read_bytes())
        names = {category["id"]: category["name"] for category in document["categories"]}
        images = {image["id"]: image for image in document["images"]}
        found: dict[str, dict[str, list[Box]]] = {
            image["file_name"]: {} for image in images.values()
        }
        for annotation in document["annotations"]:
            image = images[annotation["image_id"]]
            name = names[annotation["category_id"]]
            box = _read_box(annotation["bbox"], image["width"], image["height"])
            found[image["file_name"]].setdefault(name, []).append(box)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise DataError(f"{path} is not in COCO's layout of instances (at {error}).") from error
    return {
        key: {name: tuple(boxes) for name, boxes in each.items()} for key, each in found.items()
    }


def _read_box(bbox: Sequence[float], across: float, down: float) -> Box:
    x, y, width, height = bbox
    right = min((x + width) / across, 1.0)
    bottom = min((y + height) / down, 1.0)
    return Box(x / across, y / down, right, bottom)


class _PhraseMeasure:
    """Measures the maps of phrases against their boxes, on one grid."""

    def __init__(self, grid: CellGrid) -> None:
        self.grid = grid
        self.gaussian = centered_gaussian(grid)

    def __call__(self, image: int, caption: int, phrase: Phrase, alphas: Tensor) -> PhraseScore:
        """Measure one phrase; alphas (T, L) are the maps of the whole caption."""
        words = alphas[phrase.start : phrase.end]
        shares = torch.from_numpy(self.grid.coverage(phrase.boxes))
        inside = centers_inside(phrase.boxes, self.grid)
        masses = words @ shares
        peaks = peak_inside(words, inside)
        return PhraseScore(
            image,
            caption,
            phrase,
            mass=float(masses.mean()),
            best_word_mass=float(masses.max()),
            peak=float(peaks.mean()),
            last_word_peak=float(peaks[-1]),
            share=float(shares.mean()),
            even_peak=float(inside.mean()),
            gaussian_mass=float(self.gaussian @ shares),
            gaussian_peak=float(_holds_center(phrase.boxes)),
            gaussian_cells_peak=float(peak_inside(self.gaussian.unsqueeze(0), inside)),
        )


def _holds_center(boxes: Sequence[Box]) -> bool:
    x, y = _CENTER
    return any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes)


def _grounded(
    image: CaptionedImage, grounding: Mapping[str, tuple[GroundedCaption, ...]]
) -> tuple[GroundedCaption, ...]:
    if image.key not in grounding:
        raise DataError(f"{image.key} is not among the grounded captions; measure photos that are.")
    return grounding[image.key]


def _checked(grounding: Grounding) -> Grounding:
    if not grounding.phrases:
        raise DataError(
            f"Nothing in {grounding.images} photos could be measured: no word has a box."
        )
    return grounding
