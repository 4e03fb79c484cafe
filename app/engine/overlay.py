"""A caption's attention maps drawn over its picture, as a PNG file."""

from models.captioner import Caption, Word
from models.preprocessing import DecodeLimits, decode_image
from models.rendering import Panel, encode_png, render_grid, render_word

__all__ = ["draw_overlay"]


def draw_overlay(
    data: bytes, caption: Caption, *, word: int | None, side_pixels: int, limits: DecodeLimits
) -> bytes:
    """The upload with the maps of its best caption laid over it: one panel a word, or one word's
    alone.

    word: the position of a word of the best caption, from 0; None for all of them.
    side_pixels: the picture's longest side in the drawing; a smaller picture is not enlarged.
    Raises ImageError, as `decode_image` does.
    """
    decoded = decode_image(data, side_pixels=side_pixels, limits=limits)
    decoded.picture.thumbnail((side_pixels, side_pixels))
    best = caption.hypotheses[0]

    def panel(each: Word) -> Panel:
        return Panel(
            label=each.text, alpha=each.alpha, probability=each.probability, box=caption.grid.box
        )

    if word is not None:
        return encode_png(
            render_word(decoded.picture, panel(best.words[word]), max_side_pixels=side_pixels)
        )
    return encode_png(render_grid(decoded.picture, best.text, [panel(each) for each in best.words]))
