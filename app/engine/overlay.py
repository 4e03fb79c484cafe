"""Draws a caption's attention maps over its image, as a PNG file. Knows no model."""

from models.caption import Caption
from models.preprocessing import DecodeLimits, decode_image
from models.rendering import caption_panels, encode_png, render_grid, render_word

__all__ = ["draw_overlay"]


def draw_overlay(
    data: bytes, caption: Caption, *, word: int | None, side_pixels: int, limits: DecodeLimits
) -> bytes:
    """Draw the maps of the best caption over the upload: one panel a word, or one word alone.

    word: the position of a word of the best caption, from 0; None for all words.
    side_pixels: the longest side of the image in the drawing; a smaller image is not enlarged.
    Raises ImageError or OutOfMemoryError, as `decode_image` does.
    """
    image = decode_image(data, side_pixels=side_pixels, limits=limits).rgb
    image.thumbnail((side_pixels, side_pixels))
    panels = caption_panels(caption)
    if word is not None:
        drawing = render_word(image, panels[word], max_side_pixels=side_pixels)
    else:
        drawing = render_grid(image, caption.best.text, panels)
    return encode_png(drawing)
