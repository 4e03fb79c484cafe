"""From a detector's scores to objects on the image: boxes placed, and each object told once.

Knows no network, no captions and no names of classes; computes with NumPy alone.

Letters in shapes: N places, K classes; the others as in `models`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.geometry import Box

__all__ = [
    "NUM_CLASSES",
    "SIZE_PIXELS",
    "STRIDES",
    "Detection",
    "find_objects",
    "fitted_size",
    "suppress_overlaps",
]

SIZE_PIXELS = 416
STRIDES = (8, 16, 32)
NUM_CLASSES = 80

Floats = npt.NDArray[np.float32]
_MAX_CANDIDATES = 300  # of one image, before overlaps are looked at


class Detection(NamedTuple):
    """One object: its class, from 0, how sure the detector is, from 0 to 1, and where it is.

    box: in fractions of the image as a person sees it.
    """

    category: int
    score: float
    box: Box


def find_objects(
    scores: Floats,
    sizes: Sequence[tuple[int, int]],
    *,
    min_score: float,
    max_overlap: float,
    max_objects: int,
) -> list[list[Detection]]:
    """Find the objects of B images, the surest first.

    scores: (B, N, 5 + K), what YOLOX-nano gives for squares of `SIZE_PIXELS`: x, y, w, h before
        they are placed, objectness, and a score for each class, from 0 to 1.
    sizes: width and height of each file, in pixels.
    min_score: of objectness times class score. max_overlap: intersection over union, above which
        the less sure of two boxes of one class is the same object again.
    """
    centers, scale = _cells()
    return [
        _find_objects_of_image(
            image, centers, scale, fitted_size(*size, SIZE_PIXELS), min_score, max_overlap
        )[:max_objects]
        for image, size in zip(scores, sizes, strict=True)
    ]


def _find_objects_of_image(
    scores: Floats,
    cells: Floats,
    scale: Floats,
    size: tuple[int, int],
    min_score: float,
    max_overlap: float,
) -> list[Detection]:
    """Find the objects of one image, scores (N, 5 + K); its size in the square, in pixels."""
    classes = scores[:, 5:]
    categories = classes.argmax(axis=1)  # (N,)
    best = scores[:, 4] * classes.max(axis=1)
    order = np.argsort(-best, kind="stable")[:_MAX_CANDIDATES]
    kept = order[best[order] >= min_score]
    boxes = _place_boxes(scores[kept, :4], cells[kept], scale[kept])
    kept_places = suppress_overlaps(boxes, categories[kept], max_overlap)
    columns, rows = size
    fractions = boxes / np.array([columns, rows, columns, rows], dtype=np.float32)
    places = np.clip(fractions, 0.0, 1.0).tolist()
    return [
        Detection(int(categories[kept[place]]), float(best[kept[place]]), Box(*places[place]))
        for place in kept_places
    ]


def suppress_overlaps(boxes: Floats, categories: npt.NDArray[Any], max_overlap: float) -> list[int]:
    """Tell each object once: give the positions of the boxes to keep, in order.

    boxes: (N, 4) left, top, right, bottom, the surest first. categories: (N,). A box goes where it
    overlaps a kept one of its class by more than `max_overlap` (non-maximum suppression, class by
    class).
    """
    overlaps = _overlaps(boxes) > max_overlap
    again = (overlaps & (categories[:, np.newaxis] == categories)).tolist()
    kept: list[int] = []
    for position, row in enumerate(again):
        if not any(row[earlier] for earlier in kept):
            kept.append(position)
    return kept


def _overlaps(boxes: Floats) -> Floats:
    """Compute the intersection over union of each two boxes: (N, 4) to (N, N)."""
    top_left = np.maximum(boxes[:, np.newaxis, :2], boxes[:, :2])
    bottom_right = np.minimum(boxes[:, np.newaxis, 2:], boxes[:, 2:])
    shared = np.maximum(bottom_right - top_left, 0.0).prod(axis=2)
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0).prod(axis=1)
    united = areas[:, np.newaxis] + areas - shared
    overlaps: Floats = shared / np.maximum(united, np.float32(1e-9))
    return overlaps


@cache
def _cells() -> tuple[Floats, Floats]:
    """Give the cell of each place, (N, 2), and the side of such a cell in pixels, (N, 1)."""
    cells = []
    scales = []
    for stride in STRIDES:
        side = np.arange(SIZE_PIXELS // stride, dtype=np.float32)
        down, across = np.meshgrid(side, side, indexing="ij")
        cells.append(np.stack([across.ravel(), down.ravel()], axis=1))
        scales.append(np.full((len(side) ** 2, 1), stride, dtype=np.float32))
    return np.concatenate(cells), np.concatenate(scales)


def _place_boxes(raw: Floats, cells: Floats, scale: Floats) -> Floats:
    """Place boxes (N, 4) on the square, in its pixels: left, top, right, bottom.

    Ge et al. 2021, section 2.1, as YOLOv3: center = (xy + cell) * stride, size = exp(wh) * stride.
    """
    centers = (raw[:, :2] + cells) * scale
    halves = np.exp(raw[:, 2:]) * scale / 2
    return np.concatenate([centers - halves, centers + halves], axis=1)


def fitted_size(width: int, height: int, size_pixels: int) -> tuple[int, int]:
    """Give the columns and rows that an image takes in a square, its longer side filling it."""
    scale = size_pixels / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
