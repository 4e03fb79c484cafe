"""Flickr30k Entities: which words of a caption stand for which boxes, and the grid's share in them. Knows no model.

Boxes are (left, top, right, bottom) in fractions of the picture's width and height, from the upper left corner.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from models.tokenizer import tokenise
from training.layouts import DataError, read_lines

__all__ = ["Box", "CellGrid", "GroundedCaption", "Phrase", "cell_shares", "mirror_shares", "read_entities"]

Box = tuple[float, float, float, float]

_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


class Phrase(NamedTuple):
    """The tokens `start` to `end` (without it) of a caption, counted from 0, and the boxes that they stand for."""

    start: int
    end: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class GroundedCaption:
    """A caption's tokens, just as `tokenise` gives them for its text, and its phrases that have boxes, in order."""

    tokens: tuple[str, ...]
    phrases: tuple[Phrase, ...]


class CellGrid(NamedTuple):
    """Where a map's cells lie: rows x columns divide `box`, in fractions of the picture, evenly, row by row."""

    rows: int
    columns: int
    box: Box = _WHOLE


def read_entities(path: Path) -> dict[str, tuple[GroundedCaption, ...]]:
    """Read the JSON Lines of Flickr30k Entities (Plummer et al. 2015), by the photo's file name.

    A line is {"file", "captions": [{"words", "phrases": [{"start", "end", "entity"}]}], "boxes": {entity: [box]}},
    with positions in words; they are brought to tokens. Phrases without a box (scenes, the unseen) are left out.
    Raises DataError, with the line, where the file cannot be read or a line is not of this form.
    """
    read: dict[str, tuple[GroundedCaption, ...]] = {}
    for where, text in read_lines(path):
        try:
            line = _Line.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise DataError(f"{path.parent / where}: {place + ': ' if place else ''}{first['msg']}.") from None
        if line.file in read:
            raise DataError(f"{path.parent / where}: {line.file} stands in an earlier line already.")
        for boxes in line.boxes.values():
            _check_boxes(boxes, f"{path.parent / where}")
        read[line.file] = tuple(_ground(each, line.boxes, f"{path.parent / where}") for each in line.captions)
    return read


def cell_shares(boxes: Sequence[Box], grid: CellGrid) -> Tensor:
    """Give the share of each cell's area that lies in the union of `boxes`: (L,) float32 in [0, 1], exact.

    A grid whose left is greater than its right runs from right to left: the grid of a mirrored picture.
    """
    edges = np.array(list(boxes), dtype=np.float64).reshape(-1, 4)
    across, columns = _strips(edges[:, 0], edges[:, 2], grid.box[0], grid.box[2], grid.columns)
    down, rows = _strips(edges[:, 1], edges[:, 3], grid.box[1], grid.box[3], grid.rows)
    covered = (down.T @ across) > 0  # (Y, X): some box covers this strip of rows and this strip of columns
    return torch.from_numpy((rows @ covered @ columns.T).clip(0.0, 1.0).astype(np.float32).reshape(-1))


def mirror_shares(shares: Tensor, grid: CellGrid) -> Tensor:
    """Swap left and right of maps or shares (..., L): exact where the grid lies in the picture's middle."""
    rows: Tensor = shares.unflatten(-1, (grid.rows, grid.columns))
    return rows.flip(-1).flatten(-2)


def _strips(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], first: float, last: float, cells: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cut one axis at every edge of a box: which boxes cover each of the S strips (boxes, S), 0 or 1, and which share
    of each cell the strip makes up (cells, S)."""
    borders = np.linspace(first, last, cells + 1)
    cuts = np.unique(np.concatenate([low, high, borders]))
    centres = (cuts[1:] + cuts[:-1]) / 2
    boxes = (low[:, None] <= centres) & (centres < high[:, None])
    near, far = np.minimum(borders[1:], borders[:-1])[:, None], np.maximum(borders[1:], borders[:-1])[:, None]
    shares = ((near <= centres) & (centres < far)) * np.diff(cuts) / (far - near)
    return boxes.astype(np.float64), shares


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
            raise DataError(f"{where}: [{left}, {top}, {right}, {bottom}] is not a box in fractions of the picture.")


def _ground(caption: _Caption, boxes: dict[str, tuple[Box, ...]], where: str) -> GroundedCaption:
    """Bring a caption's phrases from words to tokens: a token begins where the words before it end."""
    words = caption.words
    counts = _token_counts(words)
    phrases = []
    for span in caption.phrases:
        if not 0 <= span.start < span.end <= len(words):
            raise DataError(f"{where}: words {span.start} to {span.end} are no phrase of a caption of {len(words)}.")
        start, end = counts[span.start], counts[span.end]
        if start < end and boxes.get(span.entity):
            phrases.append(Phrase(start, end, boxes[span.entity]))
    return GroundedCaption(tuple(tokenise(" ".join(words))), tuple(phrases))


def _token_counts(words: Sequence[str]) -> list[int]:
    """How many tokens the first 0, 1, 2 ... words have together; words with an apostrophe may join the one before."""
    if all(word.isascii() and "'" not in word and "`" not in word for word in words):
        return [0, *accumulate(map(_token_count, words))]
    return [len(tokenise(" ".join(words[:count]))) for count in range(len(words) + 1)]


@lru_cache(maxsize=1 << 15)
def _token_count(word: str) -> int:
    return len(tokenise(word))
