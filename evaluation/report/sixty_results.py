"""What a model says of the sixty things, and how that was judged by hand, each as it is kept.

docs/sixty.json has the captions, docs/sixty-verdicts.json the verdicts: by the thing's name and the
caption, so that a new caption has no verdict until somebody has looked. Knows no images.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from evaluation.records import IF_ANY, Record
from evaluation.report.things import UNSURE_KINDS, Kind
from models.errors import ConfigError

__all__ = [
    "JUDGEMENTS",
    "Judgement",
    "SixtyResult",
    "ThingResult",
    "Verdicts",
    "judgement",
    "read_sixty",
    "read_verdicts",
    "write_sixty",
    "write_verdicts",
]

Judgement = Literal["right", "half right", "wrong", "not judged yet"]

JUDGEMENTS: tuple[Judgement, ...] = ("right", "half right", "wrong")
"""What a verdict begins with; after a colon it may say more."""

Verdicts = Mapping[str, Mapping[str, str]]
"""By the thing's name, by the caption: "half right: a cup, not a bowl"; "" until it is judged."""


class ThingResult(Record):
    """What a model says of a thing's picture.

    source: of the picture, in words. objects: what was detected in it; None where nothing looks for
    objects. confidence: of the whole caption, in [0, 1].
    """

    name: str
    kind: Kind
    source: str
    caption: str
    confidence: Annotated[float, Field(ge=0.0, le=1.0)]
    objects: Annotated[tuple[str, ...] | None, IF_ANY] = None


class SixtyResult(Record):
    """What a model says of all things, in order. digest: of the model's weights."""

    model: str
    digest: str
    things: tuple[ThingResult, ...]

    def counts(self, verdicts: Verdicts) -> Counter[Judgement]:
        """Count how the captions were judged."""
        return Counter(judgement(verdicts, thing) for thing in self.things)

    def median_confidence(self, verdicts: Verdicts, asked: Judgement) -> float | None:
        """Find the median confidence of the captions that were judged so; None of none."""
        found = [thing.confidence for thing in self.things if judgement(verdicts, thing) == asked]
        return median(found) if found else None

    def too_sure(self, verdicts: Verdicts) -> list[ThingResult]:
        """List the things of `UNSURE_KINDS` whose caption is not below the right ones' median.

        A caption of theirs that was judged right may be sure of itself.
        """
        limit = self.median_confidence(verdicts, "right")
        if limit is None:
            return []
        return [
            thing
            for thing in self.things
            if thing.kind in UNSURE_KINDS
            and judgement(verdicts, thing) != "right"
            and thing.confidence >= limit
        ]


def judgement(verdicts: Verdicts, thing: ThingResult) -> Judgement:
    """Say how a caption was judged; it was not where the verdict is of another caption."""
    verdict = verdicts.get(thing.name, {}).get(thing.caption, "")
    begin = verdict.partition(":")[0]
    return next((each for each in JUDGEMENTS if each == begin), "not judged yet")


def read_sixty(path: Path) -> SixtyResult | None:
    """Read what a model said; None where there is no file."""
    if not path.is_file():
        return None
    return SixtyResult.model_validate_json(path.read_text(encoding="utf-8"))


def write_sixty(path: Path, result: SixtyResult) -> None:
    """Write what a model said."""
    document = result.model_dump(mode="json")
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_verdicts(path: Path) -> dict[str, dict[str, str]]:
    """Read the verdicts; {} where there is no file.

    Raises ConfigError for a verdict that begins with none of `JUDGEMENTS`.
    """
    if not path.is_file():
        return {}
    verdicts = TypeAdapter(dict[str, dict[str, str]]).validate_json(path.read_bytes())
    for name, by_caption in verdicts.items():
        for verdict in filter(None, by_caption.values()):
            if verdict.partition(":")[0] not in JUDGEMENTS:
                allowed = f"{', '.join(JUDGEMENTS[:-1])} or {JUDGEMENTS[-1]}"
                raise ConfigError(
                    f"{path}: the verdict {verdict!r} of {name!r} must begin with {allowed}; a "
                    "colon and more may follow."
                )
    return verdicts


def write_verdicts(path: Path, verdicts: Verdicts, things: Sequence[ThingResult]) -> None:
    """Write the verdicts, in the order of the things, with empty ones where none was given.

    Verdicts of other captions stay: a model may say them again.
    """
    ordered: dict[str, dict[str, str]] = {}
    for thing in things:
        ordered[thing.name] = {thing.caption: ""} | dict(verdicts.get(thing.name, {}))
    others = {name: dict(given) for name, given in verdicts.items() if name not in ordered}
    text = json.dumps(ordered | others, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
