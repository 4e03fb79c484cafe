"""Draws a caption's attention maps over its image, as a PNG file. Knows no model and no files."""

from PIL import Image

from models.caption import Caption
from models.rendering import caption_panels, encode_png, render_grid, render_word

__all__ = ["draw_overlay"]


def draw_overlay(
    image: Image.Image, caption: Caption, *, word: int | None, side_pixels: int
) -> bytes:
    """Draw the maps of the best caption over the image: one panel a word, or one word alone.

    image: RGB, no side longer than `side_pixels`.
    word: the position of a word of the best caption, from 0; None for all words.
    side_pixels: the longest side of the image in the drawing; a smaller image is not enlarged.
    """
    panels = caption_panels(caption)
    if word is not None:
        drawing = render_word(image, panels[word], max_side_pixels=side_pixels)
    else:
        drawing = render_grid(image, caption.best.text, panels)
    return encode_png(drawing)
