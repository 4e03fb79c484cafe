"""From a detector's scores to objects on the image: boxes placed, and each object told once.

Knows no network, no captions and no names of classes.

Letters in shapes: N places, K classes; the others as in `models`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.geometry import Box

__all__ = ["Detection", "find_objects", "fit_into_square", "suppress_overlaps"]

_BACKGROUND = 114.0  # what YOLOX pads its images with
_MAX_CANDIDATES = 300  # of one image, before overlaps are looked at


class Detection(NamedTuple):
    """One object: its class, from 0, how sure the detector is, from 0 to 1, and where it is.

    box: in fractions of the image as a person sees it.
    """

    category: int
    score: float
    box: Box


def fit_into_square(image: Tensor, width: int, height: int, size_pixels: int) -> Tensor:
    """Undo the squeezing of an image, and lay it into the top left of a gray square.

    image: (3, S, S), RGB on the 0..255 scale, of a file of `width` x `height` pixels. Gives
    (3, size_pixels, size_pixels) float32, BGR, as YOLOX was trained on.
    """
    columns, rows = _fitted_size(width, height, size_pixels)
    fitted = F.interpolate(
        image.flip(0)[None].float(), size=(rows, columns), mode="bilinear", antialias=True
    )
    square = fitted.new_full((3, size_pixels, size_pixels), _BACKGROUND)
    square[:, :rows, :columns] = fitted[0]
    return square


def find_objects(
    scores: Tensor,
    sizes: Sequence[tuple[int, int]],
    *,
    size_pixels: int,
    strides: Sequence[int],
    min_score: float,
    max_overlap: float,
    max_objects: int,
) -> list[list[Detection]]:
    """Find the objects of B images, the surest first.

    scores: (B, N, 5 + K), what `YOLOXNano` gives for squares of `size_pixels`.
    sizes: width and height of each file, in pixels.
    min_score: of objectness times class score. max_overlap: intersection over union, above which
        the less sure of two boxes of one class is the same object again.
    """
    boxes = _place_boxes(scores[..., :4], size_pixels, strides)  # (B, N, 4)
    sure = scores[..., 4:5] * scores[..., 5:]  # (B, N, K)
    found = []
    for image_boxes, image_scores, (width, height) in zip(boxes, sure, sizes, strict=True):
        best, categories = image_scores.max(dim=1)  # (N,)
        kept = best.topk(min(_MAX_CANDIDATES, len(best))).indices
        kept = kept[best[kept] >= min_score]
        order = suppress_overlaps(image_boxes[kept], categories[kept], max_overlap)
        kept = kept[order[:max_objects]]
        columns, rows = _fitted_size(width, height, size_pixels)
        places = image_boxes[kept] / image_boxes.new_tensor([columns, rows, columns, rows])
        found.append(
            [
                Detection(category, score, Box(*place))
                for category, score, place in zip(
                    categories[kept].tolist(),
                    best[kept].tolist(),
                    places.clamp(0.0, 1.0).tolist(),
                    strict=True,
                )
            ]
        )
    return found


def suppress_overlaps(boxes: Tensor, categories: Tensor, max_overlap: float) -> list[int]:
    """Tell each object once: give the positions of the boxes to keep, in order.

    boxes: (N, 4) left, top, right, bottom, the surest first. categories: (N,). A box goes where it
    overlaps a kept one of its class by more than `max_overlap` (non-maximum suppression, class by
    class).
    """
    overlaps = _overlaps(boxes) > max_overlap
    same = categories[:, None] == categories[None, :]
    again = (overlaps & same).tolist()
    kept: list[int] = []
    for position, row in enumerate(again):
        if not any(row[earlier] for earlier in kept):
            kept.append(position)
    return kept


def _overlaps(boxes: Tensor) -> Tensor:
    """Compute the intersection over union of each two boxes: (N, 4) to (N, N)."""
    top_left = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    bottom_right = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0.0).prod(dim=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0.0).prod(dim=1)
    united = areas[:, None] + areas[None, :] - shared
    return shared / united.clamp(min=1e-9)


def _place_boxes(raw: Tensor, size_pixels: int, strides: Sequence[int]) -> Tensor:
    """Place boxes (B, N, 4) on the square, in its pixels: left, top, right, bottom.

    Ge et al. 2021, section 2.1, as YOLOv3: center = (xy + cell) * stride, size = exp(wh) * stride.
    """
    cells = []
    scales = []
    for stride in strides:
        side = torch.arange(size_pixels // stride, dtype=torch.float32, device=raw.device)
        down, across = torch.meshgrid(side, side, indexing="ij")
        cells.append(torch.stack([across.flatten(), down.flatten()], dim=1))
        scales.append(raw.new_full((len(side) ** 2, 1), float(stride)))
    scale = torch.cat(scales)
    centers = (raw[..., :2] + torch.cat(cells)) * scale
    halves = raw[..., 2:].exp() * scale / 2
    return torch.cat([centers - halves, centers + halves], dim=2)


def _fitted_size(width: int, height: int, size_pixels: int) -> tuple[int, int]:
    """Give the columns and rows that an image takes in a square, its longer side filling it."""
    scale = size_pixels / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
