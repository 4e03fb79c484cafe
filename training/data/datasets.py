"""Captioned images, read as their publishers lay them out.

Knows no tensors, and opens images only to verify them.

What cannot be used is named and counted in a `ReadReport`, and stops the reading only above a
limit.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.errors import ImageError
from models.preprocessing import decode_image
from training.data.layouts import (
    READERS,
    DataError,
    Kind,
    Problem,
    ReadReport,
    Record,
    Source,
    Split,
    read_lines,
)

__all__ = [
    "CaptionedImage",
    "DataError",
    "DatasetConfig",
    "Kind",
    "Problem",
    "ReadReport",
    "Split",
    "read_dataset",
]

_IMAGE_FOLDERS: dict[str, tuple[str, ...]] = {
    "flickr8k": ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images"),
    "karpathy": (
        ".",
        "images",
        "imgs",
        "flickr30k-images",
        "flickr30k_images",
        "Flicker8k_Dataset",
    ),
    "coco": ("images", "train2014", "val2014", "train2017", "val2017", "."),
    "jsonl": (".", "images"),
}
_LAYOUTS: dict[str, str] = {
    "flickr8k": "Flickr8k.token.txt, Flickr_8k.{train,dev,test}Images.txt and the pictures in "
    "Flicker8k_Dataset/",
    "karpathy": "one dataset_<set>.json and the pictures at <filepath>/<filename>, at <filename>, "
    "or in images/",
    "coco": "captions.json or annotations/captions_<split><year>.json, and the pictures in images/ "
    "or <split><year>/",
    "jsonl": 'captions.jsonl or <split>.jsonl of {"file": "...", "captions": [...]} lines, files '
    "below the folder",
    "captions": 'a .jsonl of {"photo": "...", "captions": [...]} lines; no pictures',
}


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One captioned image.

    key: unique within its set. path: None where only the captions are there.
    """

    key: str
    path: Path | None
    captions: tuple[str, ...]


class DatasetConfig(BaseModel):
    """One data set: where it lies, in which layout, which part, and its weight in a mixture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, description="how reports and curves call it")]
    kind: Annotated[Kind, Field(description="the layout on disk")]
    root: Annotated[Path, Field(description="the set's folder")]
    split: Annotated[Split, Field(description="'all' where the set is not split")]
    captions: Annotated[
        str | None, Field(description="name or glob of the captions below root; else the usual")
    ] = None
    images: Annotated[
        str | None, Field(description="folder of pictures below root; else the usual")
    ] = None
    weight: Annotated[
        float, Field(gt=0.0, description="how often its photos are drawn, relative to other sets")
    ] = 1.0
    include_keys_file: Annotated[
        Path | None, Field(description="only these photos, one key a line")
    ] = None
    exclude_keys_file: Annotated[
        Path | None, Field(description="without these photos, one key a line")
    ] = None
    description_sentences: Annotated[
        int, Field(ge=0, description="fill up to so many captions from `description` (jsonl)")
    ] = 0
    entities: Annotated[
        str | None, Field(description="boxes of noun phrases, JSON Lines below root")
    ] = None
    max_problems: Annotated[
        int, Field(ge=0, description="more unusable items than this stop the run")
    ] = 0
    verify_images: Annotated[
        bool, Field(description="decode every picture at reading; slow, finds damaged ones")
    ] = False


def read_dataset(config: DatasetConfig) -> tuple[list[CaptionedImage], ReadReport]:
    """Read the usable images of a set, in its own order, and the report of the rest.

    Raises DataError where the folder or its files are missing, where nothing usable is left, or
    where there are more problems than `config.max_problems`.
    """
    if not config.root.is_dir():
        raise DataError(
            f"data set '{config.name}': there is no folder {config.root}. "
            f"Kind '{config.kind}' expects in it: {_LAYOUTS[config.kind]}."
        )
    included, excluded = _read_keys(config.include_keys_file), _read_keys(config.exclude_keys_file)
    source = Source(
        root=config.root,
        captions=config.captions,
        split=config.split,
        free_split=included is not None or excluded is not None,
        description_sentences=config.description_sentences,
    )
    report = ReadReport(config.name)
    images: dict[str, CaptionedImage] = {}
    seen: set[str] = set()
    for record in READERS[config.kind](source, report):
        if (included is not None and record.key not in included) or record.key in (excluded or ()):
            continue
        if record.key in seen:
            report.add(record.key, "appears more than once")
            continue
        seen.add(record.key)
        if image := _check(record, config, report):
            images[image.key] = image
    for key in (key for key in included or () if key not in seen):
        report.add(key, f"is in {config.include_keys_file} but not in the set")
    report.raise_if_over(config.max_problems)
    if not images:
        raise DataError(
            f"data set '{config.name}': no usable photo in {config.root} (split '{config.split}')."
        )
    return list(images.values()), report


def _check(record: Record, config: DatasetConfig, report: ReadReport) -> CaptionedImage | None:
    """Make a captioned image of a record, or report why not."""
    captions = []
    for number, caption in enumerate(record.captions, start=1):
        text = " ".join(caption.split()) if isinstance(caption, str) else ""
        if text:
            captions.append(text)
        else:
            report.add(record.key, f"caption {number} is empty or no text")
    if not record.captions:
        report.add(record.key, "has no captions")
    if not captions:
        return None
    path = None
    if record.image is not None:
        path = _find_image(record, config)
        if path is None:
            report.add(record.key, f"there is no such picture below {config.root}")
            return None
        if config.verify_images and (fault := _fault(path)):
            report.add(record.key, f"the picture cannot be read: {fault}")
            return None
    return CaptionedImage(record.key, path, tuple(captions))


def _find_image(record: Record, config: DatasetConfig) -> Path | None:
    """Find the image, as published or by its bare name, in the first usual folder that has it."""
    folders = (config.images,) if config.images is not None else _IMAGE_FOLDERS[config.kind]
    names = dict.fromkeys((record.image or record.key, record.key))
    paths = (config.root / folder / name for name in names for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def _fault(path: Path) -> str | None:
    """Say why the server's own decoder refuses an image, or None where it does not."""
    try:
        decode_image(path.read_bytes())
    except (ImageError, OSError) as error:
        return str(error)
    return None


def _read_keys(path: Path | None) -> dict[str, None] | None:
    """Read a list of keys, one a line, in order; lines that start with '#' are remarks."""
    if path is None:
        return None
    return dict.fromkeys(
        line.strip() for _, line in read_lines(path) if not line.lstrip().startswith("#")
    )
