"""From what detector and classifier give to tags, for every runtime. Knows no network, no captions.

Computes with NumPy alone. Letters in shapes: W tags of an image, N places of the detector, K
classes; the others as in `models`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from models.array_features import TagArrays, covered_shares, places_of_boxes
from models.config import TaggerConfig
from models.detection.boxes import SIZE_PIXELS, Detection, find_objects
from models.geometry import WHOLE_IMAGE, CellGrid
from models.tagging.classes import FIRST_CONCEPT

__all__ = [
    "CLASSIFIER_SCALE",
    "LEAST_ACTIVATION",
    "concepts_as_tags",
    "objects_as_tags",
    "shares_of_parts",
]

LEAST_ACTIVATION = 0.2
"""Of the highest class activation of a concept: cells below are not where it was seen.

Section 3.2 of Zhou et al. 2016.
"""

CLASSIFIER_SCALE = 1 / 12
"""The classifier's features spread 12 times as wide as Inception's; one layer norm weighs both."""

Floats = npt.NDArray[np.float32]


def objects_as_tags(scores: Floats, config: TaggerConfig, grid: CellGrid) -> TagArrays:
    """Make tags of what the detector gives of B squeezed images, scores (B, N, 5 + K)."""
    found = find_objects(
        scores,
        [(SIZE_PIXELS, SIZE_PIXELS)] * len(scores),
        min_score=config.min_score,
        max_overlap=config.max_overlap,
        max_objects=config.max_objects,
    )
    values = np.stack([_pad_objects(each, config.max_objects) for each in found])  # (B, W, 6)
    sure = values[..., 1]
    boxes = values[..., 2:]
    places = places_of_boxes(boxes, grid) * (sure > 0)[..., np.newaxis]
    return TagArrays.pack(values[..., 0], sure, boxes, places)


def concepts_as_tags(
    classes: npt.NDArray[Any], probabilities: Floats, places: Floats, config: TaggerConfig
) -> TagArrays:
    """Make tags of the likeliest classes of B images (B, W), where the classifier saw each.

    probabilities: (B, W). places: (B, W, L).
    """
    scores = probabilities * (probabilities >= config.min_probability)
    boxes = np.broadcast_to(np.array(WHOLE_IMAGE, dtype=np.float32), (*scores.shape, 4))
    present = (scores > 0)[..., np.newaxis]
    return TagArrays.pack(classes + FIRST_CONCEPT, scores, boxes, places * present)


def shares_of_parts(parts: int, first: float, last: float, cells: int) -> Floats:
    """Give how much of each of `cells` each part of one side of the image covers: (parts, cells).

    The parts divide the side evenly; the cells divide it from `first` to `last`, in fractions.
    """
    edges = np.linspace(0.0, 1.0, parts + 1, dtype=np.float32)
    return covered_shares(np.stack([edges[:-1], edges[1:]], axis=1), first, last, cells)


def _pad_objects(found: list[Detection], count: int) -> Floats:
    """Lay one image's objects out as (count, 6): class, score, box; zeros where there are fewer."""
    values = np.zeros((count, 6), dtype=np.float32)
    for row, each in enumerate(found):
        values[row] = (each.category, each.score, *each.box)
    return values
