"""Sheets of maps: cards with a caption, a phrase of it marked, and several models' maps.

NumPy and Pillow only: images, maps, boxes and words come in, JPEGs go out. Knows no models and no
rule of choice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.geometry import Box
from models.rendering import Float32s, Panel, render_word, upsample_alpha

__all__ = ["Card", "CardPanel", "draw_map", "draw_sheet", "encode_jpeg"]

_PANEL_PIXELS = 224
_PANELS_ACROSS = 4
_GAP_PIXELS = 8
_CARD_GAP_PIXELS = 28
_MARGIN_PIXELS = 24
_TEXT_SIZE = 16
_LINE_PIXELS = 21
_LINES = 5
_SMALL_SIZE = 13
_SMALL_LINE_PIXELS = 20
_BACKGROUND = (18, 20, 26)
_INK = (240, 241, 245)
_FAINT = (158, 164, 178)
_MARK = (255, 190, 70)

# The colors of a map without an image, from low to high.
_RAMP = ((48, 50, 56), (96, 92, 92), (176, 116, 72), (255, 176, 72), (255, 226, 150))

# A box is white inside black, which is seen on any image: inset, color, width.
_LINES_OF_A_BOX = ((0, (0, 0, 0), 4), (1, (255, 255, 255), 2))
_QUALITIES = range(90, 59, -5)
_SHRINK = 0.88

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class PlacedWord(NamedTuple):
    """A word of a line: where it begins, in pixels, and whether it is marked."""

    left: float
    text: str
    is_marked: bool


Lines = list[list[PlacedWord]]


class CardPanel(NamedTuple):
    """One map, drawn, and what stands below it: a name, and a fainter remark."""

    image: Image.Image
    name: str
    remark: str


@dataclass(frozen=True, slots=True)
class Card:
    """A caption with the maps of one of its phrases.

    The words from `start` to `end` (exclusive) are marked. panels: one for each model. remarks:
    stand below in one line if there is room, else in a line each.
    """

    number: int
    words: tuple[str, ...]
    start: int
    end: int
    panels: tuple[CardPanel, ...]
    remarks: tuple[str, ...]


def draw_map(
    image: Image.Image | tuple[int, int], alpha: Float32s, grid: Box, boxes: Sequence[Box]
) -> Image.Image:
    """Lay a map (rows, columns) over an image, or color plain gray of an image's size by it.

    grid: where the map's cells lie; it and the boxes, which are outlined, are in fractions of the
    image.
    """
    size = image if isinstance(image, tuple) else image.size
    scale = _PANEL_PIXELS / max(size)
    fitted = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    if isinstance(image, tuple):
        drawn = _colored(upsample_alpha(alpha, fitted, grid))
    else:
        panel = Panel("", alpha, None, grid)
        drawn = render_word(image.resize(fitted), panel, with_label=False)
    draw = ImageDraw.Draw(drawn)
    corners = [box.in_pixels(fitted[0] - 1, fitted[1] - 1) for box in boxes]
    for inset, color, width in _LINES_OF_A_BOX:
        for left, top, right, bottom in corners:
            upper_left = (round(left) + inset, round(top) + inset)
            lower_right = (round(right) - inset, round(bottom) - inset)
            if upper_left[0] < lower_right[0] and upper_left[1] < lower_right[1]:
                draw.rectangle((*upper_left, *lower_right), outline=color, width=width)
    return drawn


def _colored(heat: Float32s) -> Image.Image:
    """Color heat (H, W) in [0, 1], from gray to yellow."""
    steps = np.linspace(0.0, 1.0, len(_RAMP))
    channels = [np.interp(heat, steps, [color[channel] for color in _RAMP]) for channel in range(3)]
    return Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))


def draw_sheet(cards: Sequence[Card]) -> Image.Image:
    """Lay cards out in rows, in reading order; all have as many panels."""
    across = len(cards[0].panels)
    columns = min(max(1, _PANELS_ACROSS // across), len(cards))
    width = across * (_PANEL_PIXELS + _GAP_PIXELS) - _GAP_PIXELS
    rows = [_draw_row(cards[at : at + columns], width) for at in range(0, len(cards), columns)]
    heights = [max(card.height for card in row) for row in rows]
    size = (
        columns * (width + _CARD_GAP_PIXELS) - _CARD_GAP_PIXELS + 2 * _MARGIN_PIXELS,
        sum(heights) + (len(rows) - 1) * _CARD_GAP_PIXELS + 2 * _MARGIN_PIXELS,
    )
    sheet = Image.new("RGB", size, _BACKGROUND)
    top = _MARGIN_PIXELS
    for row, height in zip(rows, heights, strict=True):
        for place, card in enumerate(row):
            left = _MARGIN_PIXELS + place * (width + _CARD_GAP_PIXELS)
            sheet.paste(card, (left, top))
        top += height + _CARD_GAP_PIXELS
    return sheet


def encode_jpeg(image: Image.Image, max_bytes: float) -> bytes:
    """Encode as JPEG below `max_bytes`, in the best quality that fits.

    The image is scaled down where none of the good qualities fits.
    """
    while True:
        for quality in _QUALITIES:
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=quality, subsampling="4:4:4")
            if buffer.tell() < max_bytes:
                return buffer.getvalue()
        image = image.resize(
            (round(_SHRINK * image.width), round(_SHRINK * image.height)), Image.Resampling.LANCZOS
        )


def _draw_row(cards: Sequence[Card], width: int) -> list[Image.Image]:
    """Draw cards whose maps begin at one height, below the longest caption."""
    font = ImageFont.load_default(_TEXT_SIZE)
    captions = [_lines(card, font, width) for card in cards]
    below = max(map(len, captions)) * _LINE_PIXELS + _GAP_PIXELS
    return [
        _draw_card(card, lines, width, below) for card, lines in zip(cards, captions, strict=True)
    ]


def _draw_card(card: Card, lines: Lines, width: int, below: int) -> Image.Image:
    """Draw one card, its maps `below` its top."""
    font = ImageFont.load_default(_TEXT_SIZE)
    small = ImageFont.load_default(_SMALL_SIZE)
    panels = max(panel.image.height for panel in card.panels)
    together = "; ".join(card.remarks)
    remarks = (together,) if small.getlength(together) <= width else card.remarks
    height = below + panels + (1 + len(remarks)) * _SMALL_LINE_PIXELS + 4
    image = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        for left, word, is_marked in line:
            at = (left, number * _LINE_PIXELS + _TEXT_SIZE)
            draw.text(at, word, font=font, fill=_MARK if is_marked else _INK, anchor="ls")
    baseline = below + panels + _SMALL_LINE_PIXELS - 3
    for place, panel in enumerate(card.panels):
        left = place * (_PANEL_PIXELS + _GAP_PIXELS)
        right = left + _PANEL_PIXELS
        image.paste(panel.image, (left + (_PANEL_PIXELS - panel.image.width) // 2, below))
        draw.text((left, baseline), panel.name, font=small, fill=_INK, anchor="ls")
        draw.text((right, baseline), panel.remark, font=small, fill=_FAINT, anchor="rs")
    for number, remark in enumerate(remarks, start=1):
        at = (0, baseline + number * _SMALL_LINE_PIXELS)
        draw.text(at, _cut(remark, small, width), font=small, fill=_FAINT, anchor="ls")
    return image


def _lines(card: Card, font: Font, width: int) -> Lines:
    """Break the caption into lines; the last one is cut where there are too many."""
    space = font.getlength(" ")
    lines: Lines = [[]]
    left = 0.0
    for place, word in enumerate((f"{card.number}.", *card.words), start=-1):
        room = font.getlength(word)
        if left > 0 and left + room > width:
            if len(lines) == _LINES:
                last = lines[-1].pop()
                cut = _cut(f"{last.text} ...", font, width - math.ceil(last.left))
                lines[-1].append(last._replace(text=cut))
                break
            lines.append([])
            left = 0.0
        lines[-1].append(PlacedWord(left, word, card.start <= place < card.end))
        left += room + space
    return lines


def _cut(text: str, font: Font, width: float) -> str:
    """Cut a text wider than `width`, and end it with dots."""
    while font.getlength(text) > width and text != "...":
        text = text.removesuffix("...")[:-1] + "..."
    return text
