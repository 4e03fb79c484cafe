"""The results document: everything that `glimpse-train table` and `glimpse-train maps` measured.

docs/results.json is its dump. Fields have the JSON's keys, or name the key as their alias. Each row
bears the digest of the weights that it was measured on. Fractions are fractions here; pages show
them times 100. Knows no captioner and no Markdown.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from evaluation.map_results import MapsResult
from evaluation.records import IF_ANY, Estimate, Record, is_absent
from models.config import DecodingOptions

__all__ = [
    "BootstrapSettings",
    "Difference",
    "ImageCaptions",
    "ImageSet",
    "Lineage",
    "Machine",
    "MetricScore",
    "ModelResult",
    "Results",
    "SideBySide",
    "SideBySideRow",
    "Table",
    "TimingSettings",
    "split_keys",
]

Value = TypeVar("Value")


class MetricScore(Estimate):
    """One metric of a model on a set.

    images: how many of the set have a score.
    """

    images: Annotated[int, Field(alias="photos")]


def _is_empty(value: tuple[str, ...]) -> bool:
    return not value


class Machine(Record):
    """What the table was measured on.

    torch: PyTorch's version. runtimes: names and versions of what computed, PyTorch beside others;
    empty in documents that know PyTorch alone. precision: of the encoder.
    """

    processor: str
    torch: str
    runtimes: Annotated[tuple[str, ...], Field(exclude_if=_is_empty)] = ()
    threads: int
    precision: str


class BootstrapSettings(Record):
    """How intervals were drawn."""

    resamples: int
    seed: int


class TimingSettings(Record):
    """How many images were timed, and how many before them were not counted."""

    images: Annotated[int, Field(alias="photos")]
    warm_up: int


class ImageSet(Record):
    """The size of a set, and how people score on it.

    human_main_object_named: the share of people's captions that name the main object;
    human_main_object_captions: how many such captions there are. human_echoes: the share of
    people's captions that echo; None in documents from before it was measured.
    """

    images: Annotated[int, Field(alias="photos")]
    references: int
    human_main_object_named: float | None
    human_main_object_captions: int
    human_echoes: Annotated[float | None, IF_ANY] = None


class ModelResult(Record):
    """A model's row of the table.

    attention: the kind; None of decoders without. Milliseconds are for one image. scores: by set,
    by metric.
    """

    digest: str
    encoder: str
    decoder: str
    attention: str | None
    parameters: int
    decoder_parameters: int
    decoding: DecodingOptions
    encoder_milliseconds: float
    decoder_milliseconds: float
    scores: dict[str, dict[str, MetricScore]]

    def value(self, set_name: str, metric: str) -> float | None:
        """Give a score's value; None where it was not measured."""
        score = self.scores[set_name].get(metric)
        return None if score is None else score.value


class Difference(Record):
    """How much more `first` scores than `second` on the test set.

    other_sign: the share of resamples whose difference is zero or has the other sign. is_real:
    whether the interval excludes zero.
    """

    metric: str
    first: str
    second: str
    value: float
    low: float
    high: float
    other_sign: float
    is_real: bool

    def turned(self) -> Self:
        """Give how much more `second` scores than `first`."""
        return self.model_copy(
            update={
                "first": self.second,
                "second": self.first,
                "value": -self.value,
                "low": -self.high,
                "high": -self.low,
            }
        )


class ImageCaptions(Record):
    """What each model says of an image, by the image's file."""

    file: str
    captions: dict[str, str]


class SideBySideRow(Record):
    """What each model and a person say of a test image.

    position: the image's place in its set, from 1.
    """

    position: int
    file: str
    captions: dict[str, str]
    human: str


class SideBySide(Record):
    """Captions of test images, and the rule that chose them."""

    rule: str
    images: Annotated[tuple[SideBySideRow, ...], Field(alias="photos")]


class Lineage(Record):
    """What a model began with.

    source: the bundle that it goes back to; None of a model that began from none. stages: in words,
    in order, from there. The other fields are there where the source is among the models measured.
    same_encoder, same_words: whether those are still the source's. has_second_encoder: whether
    there is another encoder beside the source's. encoder_share: of the encoder's parameters, those
    that began with the source's values; decoder_share: the same of the decoder's but for words; in
    [0, 1]. new_parts: of the decoder, those that did not.
    """

    source: Annotated[str | None, Field(alias="lender")]
    stages: tuple[str, ...]
    same_encoder: Annotated[bool | None, IF_ANY] = None
    has_second_encoder: Annotated[
        bool | None, Field(alias="more_encoder", exclude_if=is_absent)
    ] = None
    same_words: Annotated[bool | None, IF_ANY] = None
    encoder_share: Annotated[float | None, Field(alias="encoder_begun", exclude_if=is_absent)] = (
        None
    )
    decoder_share: Annotated[float | None, Field(alias="begun", exclude_if=is_absent)] = None
    new_parts: Annotated[tuple[str, ...] | None, Field(alias="new", exclude_if=is_absent)] = None


class Table(Record):
    """What `glimpse-train table` measured.

    test: the set on which models are compared. sets and models are by name, in their order on the
    page. not_shipped: models that do not lie in the weights folder.
    """

    date: str
    command: str
    machine: Machine
    bootstrap: BootstrapSettings
    timing: TimingSettings
    test: str
    sets: dict[str, ImageSet]
    models: dict[str, ModelResult]
    differences: tuple[Difference, ...]
    side_by_side: SideBySide
    examples: tuple[ImageCaptions, ...]
    not_shipped: tuple[str, ...] = ()
    lineage: dict[str, Lineage] = Field(alias="origins", default_factory=dict)

    def shipped(self) -> dict[str, ModelResult]:
        """Give the rows of the models that are shipped."""
        return {name: row for name, row in self.models.items() if name not in self.not_shipped}


class Results(Record):
    """The whole document.

    In JSON, the table's keys lie beside "maps". limit: the images of each set that a quick look was
    limited to; such results are printed and never written.
    """

    table: Annotated[Table | None, IF_ANY] = None
    maps: dict[str, MapsResult] = Field(exclude_if=is_absent, default_factory=dict)
    limit: Annotated[int | None, IF_ANY] = None

    @model_validator(mode="before")
    @classmethod
    def _gather_table(cls, document: Any) -> Any:
        """Put the table's keys together."""
        if not isinstance(document, dict) or "table" in document:
            return document
        own, table = split_keys(document)
        return {**own, "table": table} if table else own

    @model_serializer(mode="wrap")
    def _spread_table(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Put the table's keys beside the others."""
        document: dict[str, Any] = dump(self)
        table = document.pop("table", {})
        return {**table, **document}

    def dump(self) -> str:
        """Write the document as JSON text."""
        document = self.model_dump(mode="json")
        return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def split_keys(document: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Split a document's keys into those of `Results` itself and those of its table."""
    own = {key: value for key, value in document.items() if key in ("maps", "limit")}
    return own, {key: value for key, value in document.items() if key not in own}
