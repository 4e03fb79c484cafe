"""Flickr30k Entities: which words of a caption stand for which boxes. Knows no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from models.geometry import Box
from models.tokenizer import tokenize
from training.data.layouts import DataError, read_lines

__all__ = ["GroundedCaption", "Phrase", "read_entities"]


class Phrase(NamedTuple):
    """The tokens `start` to `end` (exclusive) of a caption, from 0, and what boxes they mean."""

    start: int
    end: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class GroundedCaption:
    """A caption's tokens, as `tokenize` gives them, and its phrases that have boxes, in order."""

    tokens: tuple[str, ...]
    phrases: tuple[Phrase, ...]


def read_entities(path: Path) -> dict[str, tuple[GroundedCaption, ...]]:
    """Read the JSON Lines of Flickr30k Entities (Plummer et al. 2015), by the image's file name.

    A line is {"file", "captions": [{"words", "phrases": [{"start", "end", "entity"}]}], "boxes":
    {entity: [box]}}, with positions in words; they are brought to tokens. Phrases without a box
    (scenes, the unseen) are left out. Raises DataError, with the line, where the file cannot be
    read or a line is not of this form.
    """
    read: dict[str, tuple[GroundedCaption, ...]] = {}
    for where, text in read_lines(path):
        try:
            line = _Line.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise DataError(
                f"{path.parent / where}: {place + ': ' if place else ''}{first['msg']}."
            ) from None
        if line.file in read:
            raise DataError(
                f"{path.parent / where}: {line.file} stands in an earlier line already."
            )
        for boxes in line.boxes.values():
            _check_boxes(boxes, f"{path.parent / where}")
        read[line.file] = tuple(
            _ground(each, line.boxes, f"{path.parent / where}") for each in line.captions
        )
    return read


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _Span(_Strict):
    start: int
    end: int
    entity: str


class _Caption(_Strict):
    words: tuple[str, ...]
    phrases: tuple[_Span, ...]


class _Line(_Strict):
    file: str
    captions: tuple[_Caption, ...]
    boxes: dict[str, tuple[Box, ...]]


def _check_boxes(boxes: tuple[Box, ...], where: str) -> None:
    for left, top, right, bottom in boxes:
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise DataError(
                f"{where}: [{left}, {top}, {right}, {bottom}] is not a box in fractions of the "
                "picture."
            )


def _ground(caption: _Caption, boxes: dict[str, tuple[Box, ...]], where: str) -> GroundedCaption:
    """Bring a caption's phrases from words to tokens: each begins where the words before end."""
    words = caption.words
    counts = _token_counts(words)
    phrases = []
    for span in caption.phrases:
        if not 0 <= span.start < span.end <= len(words):
            raise DataError(
                f"{where}: words {span.start} to {span.end} are no phrase of a caption of "
                f"{len(words)}."
            )
        start, end = counts[span.start], counts[span.end]
        if start < end and boxes.get(span.entity):
            phrases.append(Phrase(start, end, boxes[span.entity]))
    return GroundedCaption(tuple(tokenize(" ".join(words))), tuple(phrases))


def _token_counts(words: Sequence[str]) -> list[int]:
    """Count the tokens that the first 0, 1, 2 ... words have together.

    Words with an apostrophe may join the one before.
    """
    if all(word.isascii() and "'" not in word and "`" not in word for word in words):
        return [0, *accumulate(map(_token_count, words))]
    return [len(tokenize(" ".join(words[:count]))) for count in range(len(words) + 1)]


@lru_cache(maxsize=1 << 15)
def _token_count(word: str) -> int:
    return len(tokenize(word))
