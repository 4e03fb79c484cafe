"""The figure of Show, Attend and Tell: one panel a word, lit where the model looked."""

import math

from matplotlib.figure import Figure
from PIL import Image

from evaluation.figures.style import FAINT, INK, bare, new_figure
from models.caption import Caption
from models.rendering import caption_panels, render_word

__all__ = ["attention_figure"]

_PANEL_INCHES = 2.4
_LABEL_INCHES = 0.28
_SIDE_PIXELS = 480


def attention_figure(image: Image.Image, caption: Caption, *, columns: int = 4) -> Figure:
    """Draw the image, then a panel for each word of the best caption, in rows of `columns`.

    image: upright, as a person sees it. The number beside a word is its probability.
    """
    panels = caption_panels(caption)
    count = 1 + len(panels)
    rows = math.ceil(count / columns)
    height = _PANEL_INCHES * image.height / image.width + _LABEL_INCHES
    figure = new_figure(columns * _PANEL_INCHES, rows * height)
    places = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in places:
        bare(axes)
    small = image.convert("RGB")
    small.thumbnail((_SIDE_PIXELS, _SIDE_PIXELS))
    places[0].imshow(small)
    places[0].set_title("photo", color=FAINT, fontsize=10)
    for axes, panel in zip(places[1:], panels, strict=False):
        axes.imshow(render_word(small, panel, with_label=False))
        axes.set_title(f"{panel.label}  {panel.probability:.0%}", color=INK, fontsize=10)
    return figure
