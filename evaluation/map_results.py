"""The maps' part of the results document: one row a model, one record a measure.

`evaluation.measures.grounding` and `evaluation.measures.deletion` say what is measured. Knows no
captioner and no Markdown.
"""

from typing import Annotated

from pydantic import Field

from evaluation.records import IF_ANY, Estimate, Record

__all__ = [
    "DeletionResult",
    "EvenMapScores",
    "GaussianMapScores",
    "GroundingResult",
    "MapScores",
    "MapsResult",
]


class MapScores(Record):
    """How well a model's maps lie; `evaluation.measures.grounding` says what each field is."""

    mass: Estimate
    best_word_mass: Estimate
    peak: Estimate
    last_word_peak: Estimate


class EvenMapScores(Record):
    """How well an even map lies on the same phrases."""

    mass: Estimate
    peak: Estimate


class GaussianMapScores(Record):
    """How well a centered Gaussian lies on the same phrases.

    peak: at the image's exact center. cells_peak: at the cells around it.
    """

    mass: Estimate
    peak: Estimate
    cells_peak: Estimate


class GroundingResult(Record):
    """Whether maps lie on what words name, on one set.

    left_out: images left out because a training set has them; absent where that was not asked.
    images: those with a phrase. phrases: how many were measured. without_box: how many named things
    had no box.
    """

    set_name: Annotated[str, Field(alias="set")]
    left_out: Annotated[int | None, IF_ANY] = None
    images: Annotated[int, Field(alias="photos")]
    phrases: Annotated[int, Field(alias="looks")]
    without_box: int
    model: MapScores
    uniform: EvenMapScores
    gaussian: GaussianMapScores
    peak_over_gaussian: Estimate


class DeletionResult(Record):
    """How far words' log-probabilities drop without some cells, in nats, on one set.

    cells of `locations` are deleted at a time; every `every`-th image was taken, and of a caption
    at most `words_per_image` words.
    """

    set_name: Annotated[str, Field(alias="set")]
    images: Annotated[int, Field(alias="photos")]
    words: int
    cells: int
    locations: int
    every: int
    words_per_image: Annotated[int, Field(alias="words_a_photo")]
    seed: int
    highest: Estimate
    random: Estimate
    center: Annotated[Estimate, Field(alias="centre")]
    highest_less_random: Estimate
    highest_less_center: Annotated[Estimate, Field(alias="highest_less_centre")]
    highest_over_random: Estimate


class MapsResult(Record):
    """A model's row of the maps; its metrics.json keeps it as "maps"."""

    digest: str
    date: str
    command: str
    precision: str
    decoder: str
    attention: str | None
    correctness: GroundingResult
    pointing: GroundingResult
    deletion: DeletionResult
