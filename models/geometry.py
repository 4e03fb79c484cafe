"""Where the cells of a map lie on an image, and which pixels, boxes and centers are in them.

NumPy only.

Everything that turns cells into pixels, or pixels into cells, goes through `CellGrid`. Fractions
run from 0 at the left and top edge of the image to 1 at the right and bottom edge. Knows no network
and draws nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["WHOLE_IMAGE", "Box", "CellGrid"]

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


class Box(NamedTuple):
    """A rectangle in fractions of an image's width and height; after `in_pixels`, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def in_pixels(self, width: int, height: int) -> "Box":
        """Scale the fractions to an image of `width` x `height` pixels."""
        return Box(self.left * width, self.top * height, self.right * width, self.bottom * height)

    def mirrored(self) -> "Box":
        """Swap left and right: the box on the mirrored image."""
        return Box(1.0 - self.right, self.top, 1.0 - self.left, self.bottom)


WHOLE_IMAGE = Box(0.0, 0.0, 1.0, 1.0)


class CellGrid(NamedTuple):
    """A map's cells: `rows` x `columns` of them divide `box` (fractions of the image) evenly.

    Flat arrays of L = rows * columns values start at the top left cell and go along the first row.
    """

    rows: int
    columns: int
    box: Box = WHOLE_IMAGE

    def in_pixels(self, width: int, height: int) -> Box:
        """Give the rectangle of all cells on an image of `width` x `height` pixels."""
        return self.box.in_pixels(width, height)

    def mirrored(self) -> "CellGrid":
        """Give the grid of the mirrored image, on which a map has its columns reversed."""
        return self._replace(box=self.box.mirrored())

    def centers(self) -> tuple[Float64s, Float64s]:
        """Give each cell's center, across and down, in fractions of the image: (L,) each."""
        left, top, right, bottom = self.box
        across = left + (right - left) * (np.arange(self.columns) + 0.5) / self.columns
        down = top + (bottom - top) * (np.arange(self.rows) + 0.5) / self.rows
        return np.tile(across, self.rows), np.repeat(down, self.columns)

    def locate_pixels(self, width: int, height: int) -> tuple[Float64s, Float64s]:
        """Locate the centers of an image's pixels, in cells from the grid's own corner.

        Gives x (width,) and y (height,). The first column of cells covers 0 <= x < 1 and its center
        is x = 0.5; a value below 0, or of `columns` and above, lies in the rim that no cell sees.
        So with y and `rows`.
        """
        left, top, right, bottom = self.box
        x = ((np.arange(width) + 0.5) / width - left) / (right - left) * self.columns
        y = ((np.arange(height) + 0.5) / height - top) / (bottom - top) * self.rows
        return x, y

    def coverage(self, boxes: Sequence[tuple[float, float, float, float]]) -> Float32s:
        """Give the exact share of each cell's area in the union of `boxes`: (L,) in [0, 1]."""
        edges = np.array(list(boxes), dtype=np.float64).reshape(-1, 4)
        across, columns = _strips(
            edges[:, 0], edges[:, 2], self.box.left, self.box.right, self.columns
        )
        down, rows = _strips(edges[:, 1], edges[:, 3], self.box.top, self.box.bottom, self.rows)
        # (Y, X): some box covers this strip of rows and this strip of columns
        covered = (down.T @ across) > 0
        shares = rows @ covered @ columns.T  # (rows, columns)
        return shares.clip(0.0, 1.0).astype(np.float32).reshape(-1)


def _strips(
    low: Float64s, high: Float64s, first: float, last: float, cells: int
) -> tuple[Float64s, Float64s]:
    """Cut one axis at every edge of a box or cell into S strips.

    Gives which boxes cover each strip, (boxes, S) of 0 and 1, and which share of each cell the
    strip is, (cells, S).
    """
    borders = np.linspace(first, last, cells + 1)
    cuts = np.unique(np.concatenate([low, high, borders]))
    centers = (cuts[1:] + cuts[:-1]) / 2
    boxes = (low[:, None] <= centers) & (centers < high[:, None])
    inside = (borders[:-1, None] <= centers) & (centers < borders[1:, None])
    shares = inside * np.diff(cuts) / np.diff(borders)[:, None]
    return boxes.astype(np.float64), shares
