"""The maps of several models, measured: attention correctness, pointing and deletion.

    read_map_data -> measure_maps -> MeasuredMaps.rows: each model's row of the results document

Knows no Markdown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from evaluation.captioning import (
    Advance,
    CachedEncoder,
    Encode,
    group_by_encoding,
    image_encoder,
    no_progress,
)
from evaluation.map_results import MapsResult
from evaluation.measures.deletion import measure_deletion
from evaluation.measures.grounding import (
    Grounding,
    measure_correctness,
    measure_pointing,
    read_objects,
)
from models.caption import ModelInfo
from models.captioner import NetworkCaptioner
from models.config import MapKind
from models.errors import ConfigError
from models.geometry import Box
from training.config import TrainConfig
from training.data.datasets import CaptionedImage, read_dataset
from training.data.flickr30k_entities import GroundedCaption, read_entities

__all__ = ["MapData", "MeasuredMaps", "has_own_maps", "measure_maps", "read_map_data"]


@dataclass(frozen=True, slots=True)
class MapData:
    """What maps are measured on.

    names: of the three sets, by measure. test, grounding: images with captions of people, and the
    boxes of those captions' phrases, by the images' keys. boxed, objects: images with boxes of
    objects, and those boxes, by key and category. dev: the images of the deletion test. left_out:
    how many images with boxes of objects were left out because a training set has them.
    """

    names: Mapping[str, str]
    test: Sequence[CaptionedImage]
    grounding: Mapping[str, tuple[GroundedCaption, ...]]
    boxed: Sequence[CaptionedImage]
    objects: Mapping[str, Mapping[str, tuple[Box, ...]]]
    dev: Sequence[CaptionedImage]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class MeasuredMaps:
    """Each model's row, and every phrase that its attention correctness was measured on."""

    rows: dict[str, MapsResult]
    correctness: dict[str, Grounding]


def has_own_maps(info: ModelInfo) -> bool:
    """Tell whether a model has maps of its own.

    Those of a decoder that sees the image as one vector are even.
    """
    return info.config.decoder.maps is not MapKind.UNIFORM


def read_map_data(
    config: TrainConfig,
    test: Mapping[str, Sequence[CaptionedImage]],
    dev: Mapping[str, Sequence[CaptionedImage]],
    boxes_folder: Path,
    limit: int | None = None,
) -> MapData:
    """Read what belongs to an experiment's first test set and first dev set.

    test, dev: one set each, by its name. The file of phrases is the `entities` of any set of the
    experiment with the test set's root. boxes_folder holds `instances.json` and `images/`; an image
    is left out if a training set has a file of its name. limit: only the first images of each set.
    Raises ConfigError where no set names entities, DataError where a file cannot be read.
    """
    ((test_name, grounded),) = test.items()
    ((dev_name, deleted),) = dev.items()
    entities = _find_entities(config)
    objects = read_objects(boxes_folder / "instances.json")
    learned = _training_files(config)
    boxed = [
        CaptionedImage(key, boxes_folder / "images" / key, ())
        for key in objects
        if Path(key).name not in learned
    ]
    return MapData(
        names={"correctness": test_name, "pointing": boxes_folder.name, "deletion": dev_name},
        test=grounded[:limit],
        grounding=read_entities(entities),
        boxed=boxed[:limit],
        objects=objects,
        dev=deleted[:limit],
        left_out=len(objects) - len(boxed),
    )


def _find_entities(config: TrainConfig) -> Path:
    root = config.test[0].root
    for each in (*config.test, *config.train):
        if each.root == root and each.entities:
            return root / each.entities
    raise ConfigError(
        f"No set of the experiment names the entities of {root}, which maps are measured by."
    )


def _training_files(config: TrainConfig) -> set[str]:
    """Name the files of all training images."""
    names: set[str] = set()
    for dataset in config.train:
        images, _ = read_dataset(dataset)
        names.update(Path(image.key).name for image in images)
    return names


def measure_maps(
    captioners: Sequence[NetworkCaptioner],
    data: MapData,
    command: str,
    advance: Advance = no_progress,
) -> MeasuredMaps:
    """Measure the maps of every captioner: attention correctness, pointing, deletion.

    For the first two, captioners of one encoding encode each image once. advance: is called with
    how many images are done, of all measures and models. Raises DataError as the measures do.
    """
    rows: dict[str, MapsResult] = {}
    correctness: dict[str, Grounding] = {}
    for group in group_by_encoding(captioners):
        encode = CachedEncoder(image_encoder(group[0]))
        for captioner in group:
            name = captioner.info.name
            correctness[name] = measure_correctness(
                captioner, data.test, data.grounding, encode=encode, advance=advance
            )
            rows[name] = _measure_row(captioner, data, command, correctness[name], encode, advance)
    return MeasuredMaps(rows, correctness)


def _measure_row(
    captioner: NetworkCaptioner,
    data: MapData,
    command: str,
    correctness: Grounding,
    encode: Encode,
    advance: Advance,
) -> MapsResult:
    """Measure the rest of one captioner, and describe all of it."""
    decoder = captioner.info.config.decoder
    pointing = measure_pointing(captioner, data.boxed, data.objects, encode=encode, advance=advance)
    deletion = measure_deletion(captioner, data.dev, advance=advance)
    return MapsResult(
        digest=captioner.info.digest,
        date=datetime.now(UTC).date().isoformat(),
        command=command,
        precision=captioner.precision,
        decoder=decoder.kind,
        attention=decoder.attention if decoder.kind == "attention" else None,
        correctness=correctness.describe(data.names["correctness"]),
        pointing=pointing.describe(data.names["pointing"], data.left_out),
        deletion=deletion.describe(data.names["deletion"]),
    )
