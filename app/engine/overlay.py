"""A caption's attention maps drawn over its picture, as a PNG file."""

from models.caption import Caption
from models.preprocessing import DecodeLimits, decode_image
from models.rendering import caption_panels, encode_png, render_grid, render_word

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
    panels = caption_panels(caption)
    if word is not None:
        drawing = render_word(decoded.picture, panels[word], max_side_pixels=side_pixels)
    else:
        drawing = render_grid(decoded.picture, caption.best.text, panels)
    return encode_png(drawing)
