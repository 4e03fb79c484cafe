"""How publishers lay captions out on disk: one reader per layout.

Knows no images, only the text beside them.

A reader yields a `Record` for every image of the split that was asked for. What it cannot read it
names in the `ReadReport` and passes over; only a missing or unreadable file as a whole is a
`DataError`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from models.errors import GlimpseError

__all__ = [
    "READERS",
    "DataError",
    "Kind",
    "Problem",
    "ReadReport",
    "Record",
    "Source",
    "Split",
    "read_lines",
]

Kind = Literal["flickr8k", "karpathy", "coco", "jsonl", "captions"]
Split = Literal["train", "dev", "test", "all"]

_SPLIT_WORDS: Mapping[str, str] = {"train": "train", "dev": "dev|val", "test": "test"}
_KARPATHY_SPLITS: Mapping[str, str] = {
    "train": "train",
    "restval": "train",
    "val": "dev",
    "test": "test",
}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_NAMES_SHOWN = 5


class DataError(GlimpseError):
    """A data set cannot be used as it lies there."""


class Problem(NamedTuple):
    """One thing that could not be used.

    where: a file and line, or an image's key. what: is wrong.
    """

    where: str
    what: str


@dataclass(slots=True)
class ReadReport:
    """What could not be used of the data set `name`; the loader may add to it later."""

    name: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        """Count and name one problem."""
        self.problems.append(Problem(where, what))

    def summary(self) -> str:
        """Count the problems in one line, with the first few of them named."""
        shown = [f"{where}: {what}" for where, what in self.problems[:_NAMES_SHOWN]]
        left = len(self.problems) - len(shown)
        if left:
            shown.append(f"and {left} more")
        return f"data set '{self.name}': {len(self.problems)} problem(s): {'; '.join(shown)}"

    def raise_if_over(self, max_problems: int) -> None:
        """Raise DataError where there are more problems than the limit."""
        if len(self.problems) > max_problems:
            raise DataError(
                f"{self.summary()}. The limit is {max_problems}: mend the data, "
                f"or set max_problems = {len(self.problems)} to go on without them."
            )


class Record(NamedTuple):
    """One image as its publisher wrote it.

    image: its path below the folder of images, if it has one.
    """

    key: str
    image: str | None
    captions: list[Any]


@dataclass(frozen=True, slots=True)
class Source:
    """The set's folder, the name or glob of its captions, and the split that is wanted.

    free_split: the split is only a label, because a list of keys says which images belong to it.
    """

    root: Path
    captions: str | None
    split: Split
    free_split: bool = False
    description_sentences: int = 0


def read_flickr8k(source: Source, report: ReadReport) -> Iterator[Record]:
    """Read Flickr8k: `name.jpg#0<tab>caption` lines, and `Flickr_8k.<split>Images.txt` lists."""
    path = _single(source, ["Flickr8k.token.txt", "*.token.txt"], "Flickr8k.token.txt")
    captions: dict[str, list[Any]] = {}
    for where, line in read_lines(path, report):
        label, tab, caption = line.partition("\t")
        key, mark, number = label.rpartition("#")
        if not tab or not mark or not number.isdigit() or not key:
            report.add(where, "is not '<file name>#<number><tab><caption>'")
        else:
            captions.setdefault(key, []).append(caption)
    if source.split == "all":
        names = list(captions)
    else:
        listing = path.with_name(f"Flickr_8k.{source.split}Images.txt")
        if not listing.is_file():
            raise DataError(
                f"{listing} is missing: it lists the file names of the {source.split} split, one a "
                "line."
            )
        names = list(dict.fromkeys(line.strip() for _, line in read_lines(listing, report)))
    for name in names:
        yield Record(name, name, captions.get(name, []))


def read_karpathy(source: Source, report: ReadReport) -> Iterator[Record]:
    """Read Karpathy's `dataset_<set>.json` of Flickr8k, Flickr30k and COCO.

    Its 'restval' images count as train.
    """
    path = _single(source, ["dataset*.json"], "dataset_<set>.json")
    for number, image in enumerate(_json_list(path, "images")):
        where = f"{path.name} images[{number}]"
        try:
            key, split = image["filename"], _KARPATHY_SPLITS[image["split"]]
            captions = [sentence["raw"] for sentence in image["sentences"]]
            folder = image.get("filepath", "")
        except (KeyError, TypeError, AttributeError):
            report.add(
                where, "lacks filename, sentences[].raw, or a split of train, restval, val, test"
            )
            continue
        if not isinstance(key, str) or not isinstance(folder, str) or not key:
            report.add(where, "filename and filepath must be text")
        elif source.split in ("all", split):
            yield Record(key, f"{folder}/{key}" if folder else key, captions)


def read_coco(source: Source, report: ReadReport) -> Iterator[Record]:
    """Read COCO's `captions_<split><year>.json`: images, and annotations that point at them."""
    for path in _of_split(
        source, ["captions*.json", "annotations/captions*.json"], "captions_<split>.json"
    ):
        names: dict[Any, str] = {}
        captions: dict[Any, list[Any]] = {}
        for number, image in enumerate(_json_list(path, "images")):
            identity, name = _fields(image, "id", "file_name")
            if not isinstance(identity, int | str) or not isinstance(name, str) or not name:
                report.add(f"{path.name} images[{number}]", "lacks id or file_name")
            else:
                names[identity] = name
                captions[identity] = []
        for number, annotation in enumerate(_json_list(path, "annotations")):
            identity, caption = _fields(annotation, "image_id", "caption")
            if not isinstance(identity, int | str) or identity not in names:
                report.add(f"{path.name} annotations[{number}]", "its image_id names no image")
            else:
                captions[identity].append(caption)
        for identity, name in names.items():
            yield Record(name, name, captions[identity])


def read_jsonl(source: Source, report: ReadReport) -> Iterator[Record]:
    """Read JSON Lines `{"file": ..., "captions": [...]}`; lines about one file add up.

    Other fields are ignored.

    Where an image has fewer than `description_sentences` captions, the first sentences of its
    `description` (a list, or one text) fill up to that number.
    """
    yield from _read_json_lines(source, report, ("file", "image"), has_images=True)


def read_captions(source: Source, report: ReadReport) -> Iterator[Record]:
    """Read JSON Lines `{"photo": ..., "captions": [...]}` of captions without their images."""
    yield from _read_json_lines(source, report, ("photo", "file", "image"), has_images=False)


READERS = {
    "flickr8k": read_flickr8k,
    "karpathy": read_karpathy,
    "coco": read_coco,
    "jsonl": read_jsonl,
    "captions": read_captions,
}


def read_lines(path: Path, report: ReadReport | None = None) -> Iterator[tuple[str, str]]:
    """Read a UTF-8 file as (where, line) pairs without blank lines; report lines of other bytes.

    Raises DataError where the file cannot be read, or (without a report) where a line is not UTF-8.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    for number, line in enumerate(lines, start=1):
        where = f"{path.name} line {number}"
        try:
            text = line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError:
            if report is None:
                raise DataError(f"{path} line {number} is not UTF-8 text.") from None
            report.add(where, "is not UTF-8 text")
            continue
        if text.strip():
            yield where, text


def _read_json_lines(
    source: Source, report: ReadReport, names: tuple[str, ...], *, has_images: bool
) -> Iterator[Record]:
    records: dict[str, Record] = {}
    patterns = ["captions.jsonl"] if source.split == "all" or source.free_split else []
    for path in _of_split(source, [*patterns, "*.jsonl"], "captions.jsonl, or <split>.jsonl"):
        for where, line in read_lines(path, report):
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                report.add(where, "is not JSON")
                continue
            key = next((value for value in _fields(fields, *names) if value), None)
            captions = fields.get("captions") if key else None
            if not isinstance(key, str) or not isinstance(captions, list):
                report.add(where, f'is not {{"{names[0]}": "...", "captions": ["...", ...]}}')
                continue
            missing = max(0, source.description_sentences - len(captions))
            captions = captions + _sentences(fields.get("description"))[:missing]
            records.setdefault(key, Record(key, key if has_images else None, [])).captions.extend(
                captions
            )
    yield from records.values()


def _sentences(description: object) -> list[Any]:
    if isinstance(description, str):
        return _SENTENCE_END.split(description.strip())
    return description if isinstance(description, list) else []


def _fields(record: object, *names: str) -> tuple[Any, ...]:
    values = record if isinstance(record, dict) else {}
    return tuple(values.get(name) for name in names)


def _json_list(path: Path, name: str) -> list[Any]:
    try:
        items = json.loads(path.read_bytes())[name]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is not a JSON object with a list '{name}'.") from error
    if not isinstance(items, list):
        raise DataError(f"{path}: '{name}' is not a list.")
    return items


def _matches(source: Source, patterns: list[str], expected: str) -> list[Path]:
    """List the files of the first pattern that finds any; a configured one replaces the usual."""
    for pattern in [source.captions] if source.captions else patterns:
        if found := sorted(path for path in source.root.glob(pattern) if path.is_file()):
            return found
    raise DataError(f"no captions in {source.root}: expected {source.captions or expected} there.")


def _single(source: Source, patterns: list[str], expected: str) -> Path:
    found = _matches(source, patterns, expected)
    if len(found) > 1:
        raise DataError(
            f"several captions files in {source.root}: name one as 'captions': {_names(found)}."
        )
    return found[0]


def _of_split(source: Source, patterns: list[str], expected: str) -> list[Path]:
    """List the files whose names carry the split's word.

    A file that names no split may only be read as 'all'.
    """
    found = _matches(source, patterns, expected)
    if source.split == "all":
        return found
    word = re.compile(rf"(?<![a-z])(?:{_SPLIT_WORDS[source.split]})", re.IGNORECASE)
    named = [path for path in found if word.search(path.name)]
    if named:
        return named
    if source.free_split:
        return found
    raise DataError(
        f"{_names(found)} in {source.root} does not say that it is the {source.split} split: put "
        f"'{source.split}' into the file's name, set split = \"all\", or list the split's photos "
        "in include_keys_file."
    )


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)
