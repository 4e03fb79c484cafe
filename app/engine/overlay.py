"""A caption's attention maps drawn over its picture, as a PNG file."""

import numpy as np
import numpy.typing as npt

from models.captioner import Caption, Grid, Word
from models.preprocessing import DecodeLimits, decode_image
from models.rendering import Panel, encode_png, render_grid, render_word

__all__ = ["draw_overlay", "over_whole_picture"]

Float32s = npt.NDArray[np.float32]


def draw_overlay(data: bytes, caption: Caption, *, word: int | None, side_pixels: int, limits: DecodeLimits) -> bytes:
    """The upload with the maps of its best caption laid over it: one panel a word, or one word's alone.

    word: the position of a word of the best caption, from 0; None for all of them.
    side_pixels: the picture's longest side in the drawing; a smaller picture is not enlarged.
    Raises ImageError, as `decode_image` does.
    """
    decoded = decode_image(data, side_pixels=side_pixels, limits=limits)
    decoded.picture.thumbnail((side_pixels, side_pixels))
    best = caption.hypotheses[0]

    def panel(each: Word) -> Panel:
        alpha = over_whole_picture(each.alpha, caption.grid, decoded.width, decoded.height)
        return Panel(label=each.text, alpha=alpha, probability=each.probability)

    if word is not None:
        return encode_png(render_word(decoded.picture, panel(best.words[word]), max_side_pixels=side_pixels))
    return encode_png(render_grid(decoded.picture, best.text, [panel(each) for each in best.words]))


def over_whole_picture(alpha: Float32s, grid: Grid, width: int, height: int) -> Float32s:
    """The map on cells of about the same size that divide the whole picture, which `grid.box` may leave a rim of.

    alpha: (rows, columns) -> (rows', columns'); the same array in value where the box is the whole picture.
    """
    left, top, right, bottom = grid.box
    rows = _interpolation(grid.rows, top, bottom, height)  # (rows', rows)
    columns = _interpolation(grid.columns, left, right, width)  # (columns', columns)
    return np.asarray(rows @ alpha @ columns.T, dtype=np.float32)


def _interpolation(cells: int, start: float, end: float, side: int) -> Float32s:
    """(new, cells): linear weights that carry `cells` cells between start and end over to a side cut anew."""
    cell_pixels = (end - start) / cells
    new = max(1, round(side / cell_pixels))
    centres = (np.arange(new) + 0.5) * side / new  # pixels
    positions = (centres - start) / cell_pixels - 0.5  # in cells
    weights = 1.0 - np.abs(positions[:, None] - np.arange(cells)[None, :])
    return np.maximum(weights, 0.0).astype(np.float32)
