"""A caption's attention maps drawn over its picture, as a PNG file."""

from models.captioner import Caption, Grid, Word
from models.preprocessing import DecodeLimits, decode_image
from models.rendering import Panel, encode_png, render_grid, render_word

__all__ = ["draw_overlay"]


def draw_overlay(data: bytes, caption: Caption, *, word: int | None, side_pixels: int, limits: DecodeLimits) -> bytes:
    """The upload with the maps of its best caption laid over it: one panel a word, or one word's alone.

    word: the position of a word of the best caption, from 0; None for all of them.
    side_pixels: the picture's longest side in the drawing; a smaller picture is not enlarged.
    Raises ImageError, as `decode_image` does.
    """
    image = decode_image(data, side_pixels=side_pixels, limits=limits)
    picture, size = image.picture, (image.width, image.height)
    picture.thumbnail((side_pixels, side_pixels))
    best = caption.hypotheses[0]
    if word is not None:
        return encode_png(render_word(picture, _panel(best.words[word], caption.grid, size), max_side_pixels=side_pixels))
    return encode_png(render_grid(picture, best.text, [_panel(each, caption.grid, size) for each in best.words]))


def _panel(word: Word, grid: Grid, size: tuple[int, int]) -> Panel:
    (left, top, right, bottom), (width, height) = grid.box, size
    box = (left / width, top / height, right / width, bottom / height)
    return Panel(label=word.text, alpha=word.alpha, probability=word.probability, box=box)
