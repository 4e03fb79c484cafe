"""The maps of several models, measured, as one document that JSON can hold, and the results that
two commands share.

    read_map_data -> measure_maps -> MapMeasures.rows: each model's row, and what its metrics.json
    keeps as "maps" merge_results: rows of maps and the table (`evaluation.measures.comparison`),
    each beside what is there of the other

Each row bears the digest of the weights that it was measured on. Knows no Markdown.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.captioning import group_by_encoding
from evaluation.measures.attention_maps import Annotate, annotator, remembered
from evaluation.measures.comparison import in_order
from evaluation.measures.deletion import measure_deletion
from evaluation.measures.grounding import (
    Grounding,
    measure_correctness,
    measure_pointing,
    read_objects,
)
from models.bundles.registry import describe_model
from models.caption import ModelInfo
from models.captioner import NetworkCaptioner
from models.config import MapKind
from models.errors import CheckpointError, ConfigError, UnknownModelError
from models.geometry import Box
from training.config import TrainConfig
from training.data.datasets import CaptionedImage, DataError, read_dataset
from training.data.flickr30k_entities import GroundedCaption, read_entities

__all__ = [
    "MapData",
    "MapMeasures",
    "has_soft_maps",
    "measure_maps",
    "merge_results",
    "read_map_data",
    "read_results",
]

Rows = Mapping[str, Mapping[str, Any]]  # by model


@dataclass(frozen=True, slots=True)
class MapData:
    """What maps are measured on: captions with boxes of their phrases, photos with boxes of
    objects, and the photos of the deletion test; `names` are those of the three sets by measure.

    left_out: how many photos with boxes of objects were left out, because the experiment's training
    sets have them.
    """

    names: Mapping[str, str]
    test: Sequence[CaptionedImage]
    grounding: Mapping[str, tuple[GroundedCaption, ...]]
    boxed: Sequence[CaptionedImage]
    objects: Mapping[str, Mapping[str, tuple[Box, ...]]]
    dev: Sequence[CaptionedImage]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class MapMeasures:
    """What was measured: each model's row, and of each model every look of the correctness
    measure."""

    rows: dict[str, dict[str, Any]]
    correctness: dict[str, Grounding]


def has_soft_maps(info: ModelInfo) -> bool:
    """Whether a model's maps are its own: those of a decoder that sees the picture as one vector
    are even."""
    return info.config.decoder.maps is not MapKind.UNIFORM


def read_map_data(
    config: TrainConfig,
    test: Mapping[str, Sequence[CaptionedImage]],
    dev: Mapping[str, Sequence[CaptionedImage]],
    boxes_folder: Path,
    limit: int | None = None,
) -> MapData:
    """Read what belongs to an experiment's first test set and first dev set, given by their names,
    one each.

    The file of phrases is the `entities` of any set of the experiment with the test set's root;
    boxes_folder holds `instances.json` and `images/`; of its photos those are left out whose file
    the training sets have, by its name.
    limit: only the first photos of each set. Raises ConfigError where no set names entities,
    DataError where a file cannot be read.
    """
    root = config.test[0].root
    files = [
        each.entities
        for each in (*config.test, *config.train)
        if each.root == root and each.entities
    ]
    if not files:
        raise ConfigError(
            f"No set of the experiment names the entities of {root}, which maps are measured by."
        )
    ((test_name, grounded),) = test.items()
    ((dev_name, deleted),) = dev.items()
    objects = read_objects(boxes_folder / "instances.json")
    learnt = {Path(photo.key).name for each in config.train for photo in read_dataset(each)[0]}
    boxed = [
        CaptionedImage(key, boxes_folder / "images" / key, ())
        for key in objects
        if Path(key).name not in learnt
    ]
    return MapData(
        names={"correctness": test_name, "pointing": boxes_folder.name, "deletion": dev_name},
        test=grounded[:limit],
        grounding=read_entities(root / files[0]),
        boxed=boxed[:limit],
        objects=objects,
        dev=deleted[:limit],
        left_out=len(objects) - len(boxed),
    )


def measure_maps(
    captioners: Sequence[NetworkCaptioner],
    data: MapData,
    command: str,
    advance: Callable[[int], Any] = lambda _: None,
) -> MapMeasures:
    """Measure the maps of every captioner: attention correctness, pointing, deletion.

    Captioners with one encoder encode each photo of the first two once, kept in half precision
    until all of them are measured. advance: is told how many photos are done, of all measures and
    models. Raises DataError as they do.
    """
    rows: dict[str, dict[str, Any]] = {}
    correctness: dict[str, Grounding] = {}
    for group in group_by_encoding(captioners):
        recall = remembered(annotator(group[0]))
        for captioner in group:
            name = captioner.info.name
            correctness[name] = measure_correctness(
                captioner, data.test, data.grounding, annotate=recall, advance=advance
            )
            rows[name] = _row(captioner, data, command, correctness[name], recall, advance)
    return MapMeasures(rows, correctness)


def _row(
    captioner: NetworkCaptioner,
    data: MapData,
    command: str,
    correctness: Grounding,
    annotate: Annotate,
    advance: Callable[[int], Any],
) -> dict[str, Any]:
    """Measure the rest of one captioner, and describe all of it."""
    decoder = captioner.info.config.decoder
    pointing = measure_pointing(
        captioner, data.boxed, data.objects, annotate=annotate, advance=advance
    )
    deletion = measure_deletion(captioner, data.dev, advance=advance)
    measured = {
        "correctness": correctness.describe(),
        "pointing": {"left_out": data.left_out, **pointing.describe()},
        "deletion": deletion.describe(),
    }
    return {
        "digest": captioner.info.digest,
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "precision": captioner.precision,
        "decoder": decoder.kind,
        "attention": decoder.attention if decoder.kind == "attention" else None,
        **{name: {"set": data.names[name], **each} for name, each in measured.items()},
    }


def read_results(document: Path) -> dict[str, Any]:
    """Read the results that a command has written; {} where there are none. Raises DataError for
    any other file."""
    if not document.is_file():
        return {}
    try:
        results = json.loads(document.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{document} cannot be read as JSON ({error}); remove it to begin anew."
        ) from error
    if not isinstance(results, dict):
        raise DataError(f"{document} holds no results; remove it to begin anew.")
    return results


def merge_results(
    document: Path,
    weights_folder: Path,
    *,
    table: Mapping[str, Any] | None = None,
    maps: Rows | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Put what was measured beside what is in `document` of the other command: the whole results,
    and remarks on them.

    table: `Table.results`, which replaces the table that was there. maps: rows that replace those
    of the same models; rows of weights that the weights folder no longer holds are dropped, and so
    is a table of an older form, whose rows do not name their weights; the remarks say which.
    """
    earlier, remarks = read_results(document), list[str]()
    if not all("digest" in row for row in earlier.get("models", {}).values()):
        earlier = {key: value for key, value in earlier.items() if key == "maps"}
        remarks += [f"dropped the table of {document}, which is of an older form"] * (table is None)
    rows = {**earlier.get("maps", {}), **(maps or {})}
    results = dict(earlier if table is None else table)
    measured = {**results.get("models", {}), **rows}
    digests = {name: _digest(weights_folder, name) for name in measured}
    kept = {
        name: rows[name]
        for name in in_order(list(rows))
        if rows[name].get("digest", "") == digests[name]
    }
    results = {key: value for key, value in results.items() if key != "maps"} | (
        {"maps": kept} if kept else {}
    )
    remarks += [
        f"dropped the maps of {name}: they were measured on other weights"
        for name in rows
        if name not in kept
    ]
    remarks += [
        f"the table's row of {name} was measured on other weights: run glimpse-train table again"
        for name, row in results.get("models", {}).items()
        if name not in results.get("not_shipped", ()) and row["digest"] != digests[name]
    ]
    return results, remarks


def _digest(weights_folder: Path, name: str) -> str | None:
    """The digest of the weights that a model has now; None where it has none, or damaged ones."""
    try:
        return describe_model(weights_folder, name).digest
    except (UnknownModelError, CheckpointError):
        return None
