"""What `glimpse-train retrieval` measured, typed; docs/matching.json is its dump. Knows no models.

Fractions are fractions here; the page shows them times 100.
"""

from pathlib import Path

from pydantic import Field

from evaluation.records import Estimate, Record

__all__ = [
    "ChosenCaptions",
    "FoundPhotos",
    "Judged",
    "MatchingResults",
    "Reranked",
    "Retrieved",
    "write_results",
]

Estimates = dict[str, Estimate]


class Retrieved(Record):
    """Recall and median rank by name: of pictures found by sentences, and the other way."""

    picture: Estimates
    sentence: Estimates


class Reranked(Record):
    """How candidates were put in order.

    candidates: how many, each way. weight: of a pair's logit beside the similarity, chosen on the
    first `dev_photos` of the dev set.
    """

    candidates: int
    weight: float
    dev_photos: int
    retrieved: Retrieved


class Judged(Record):
    """Pairs, half of them matched: accuracy at one half, and expected calibration error."""

    accuracy: Estimate
    calibration_error: Estimate


class ChosenCaptions(Record):
    """Captions chosen among the captioner's ten best.

    mixture: of the logit beside the search's score, chosen on dev; 0 leaves the search's own.
    own, chosen: metrics of both. real: of which metrics the difference excludes chance (95 %).
    """

    mixture: float
    own: Estimates
    chosen: Estimates
    real: tuple[str, ...]


class FoundPhotos(Record):
    """A query, and the photos that it finds, the best first, by their file names."""

    query: str
    photos: tuple[str, ...]


class MatchingResults(Record):
    """The whole document.

    digests: of each model's weights, by its name. words: masked words guessed, by model, with the
    picture and without. regions: hidden regions guessed by model; region_word and region_guess: the
    most frequent word, and how often it is right. judged: "random" and "near" mismatches.
    """

    photos: int
    captions: int
    eyes: str
    finder: str
    digests: dict[str, str]
    found: Retrieved
    reranked: Reranked | None = None
    words: dict[str, Estimates] = Field(default_factory=dict)
    regions: Estimates = Field(default_factory=dict)
    region_word: str | None = None
    region_guess: Estimate | None = None
    region_photos: int = 0
    judged: dict[str, Judged] = Field(default_factory=dict)
    captions_chosen: ChosenCaptions | None = None
    queries: tuple[FoundPhotos, ...] = ()


def write_results(path: Path, results: MatchingResults) -> None:
    """Write the document as JSON."""
    path.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
