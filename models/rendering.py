"""Attention maps laid over the image, as PNG: one word alone, or a sheet with one panel a word.

NumPy and Pillow only; knows no networks, files or HTTP. An image, and the words and maps of a
caption come in, an image goes out. Where the model looked, the image keeps its colors under a
warm light; elsewhere it falls into a cool, nearly gray dusk, so that shape and place stay readable
on bright, dark and busy images alike.
"""

import math
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from models.caption import Caption
from models.geometry import WHOLE_IMAGE, Box, CellGrid

__all__ = ["Panel", "caption_panels", "encode_png", "render_grid", "render_word", "upsample_alpha"]

Float32s = npt.NDArray[np.float32]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Color = tuple[int, int, int]

# The width of the Gaussian that spreads a cell: its neighbors overlap, no blocks are seen.
_SIGMA_CELLS = 0.6
# A peak of this many times the uniform share is shown at full contrast.
_FULL_CONTRAST_RATIO = 3.0

# How a map is laid on an image: out = dusk * (1 - heat) + light * heat
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_DUSK_TINT = np.array([0.27, 0.30, 0.39], dtype=np.float32)
_DUSK_COLOR_KEPT = 0.35
_LIGHT = np.array([1.0, 0.72, 0.25], dtype=np.float32)
_LIGHT_STRENGTH = 0.26

# The sheet, in pixels
_SHEET_PIXELS = 1_400_000  # shared by the panels
_PANEL_PIXELS = (26_000, 120_000)
_PANEL_SIDES = (880, 640)
_MIN_PANEL_SIDE = 8
_MIN_CELL_WIDTH = 140
_SHEET_RATIO = 1.5  # width to height
_GAP = 18
_MARGIN = 28
_RADIUS = 8
_LABEL_SIZES = (18, 24)
_CAPTION_LINES = 4
_BACKGROUND: Color = (18, 20, 26)
_INK: Color = (240, 241, 245)
_FAINT_INK: Color = (158, 164, 178)
_IMAGE_LABEL = "photo"

# What Unicode's own decomposition leaves as it is.
_PLAIN = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
        "ß": "ss",
        "ø": "o",
        "Ø": "O",
    }
)


@dataclass(frozen=True, slots=True)
class Panel:
    """One word and where the model looked for it.

    alpha: (rows, columns), non-negative; its cells divide `box` evenly.
    probability: of the word, in [0, 1]; None shows none.
    box: where the grid lies, in fractions of the image.
    """

    label: str
    alpha: Float32s
    probability: float | None = None
    box: Box = WHOLE_IMAGE


def caption_panels(caption: Caption) -> list[Panel]:
    """Give a panel for each word of the best hypothesis, its map placed by the caption's grid."""
    return [
        Panel(word.text, word.alpha, word.probability, caption.grid.box)
        for word in caption.best.words
    ]


def upsample_alpha(alpha: Float32s, size: tuple[int, int], box: Box = WHOLE_IMAGE) -> Float32s:
    """Spread alpha (rows, columns) smoothly to heat (height, width) in [0, 1].

    size: of the image, as (width, height).
    box: what the cells divide, in fractions of the image; a rim outside it continues its edge.

    Each cell spreads as a Gaussian around its center (weights normalized at each pixel, so that
    nothing overshoots and borders do not fade). Contrast is stretched per map, so that the shape is
    visible, but a flat map is not exaggerated: with r = peak / mean of the cells, the stretch to
    0..1 is full from r = 3 on and shrinks linearly around 0.5 down to none at r = 1; a uniform map
    (or one of zeros) is 0.5 everywhere.
    """
    width, height = size
    cells = np.asarray(alpha, dtype=np.float64)
    rows, columns = cells.shape
    x, y = CellGrid(rows, columns, box).locate_pixels(width, height)
    spread = _spread(y, rows) @ cells @ _spread(x, columns).T  # (height, width)
    low, high = spread.min(), spread.max()
    mean = cells.mean()
    ratio = cells.max() / mean if mean > 0 else 1.0
    strength = min(max((ratio - 1.0) / (_FULL_CONTRAST_RATIO - 1.0), 0.0), 1.0)
    if high - low <= 1e-9 * abs(high):
        strength, high = 0.0, low + 1.0
    heat: npt.NDArray[np.float64] = 0.5 + strength * ((spread - low) / (high - low) - 0.5)
    return heat.clip(0.0, 1.0).astype(np.float32)


def render_word(
    image: Image.Image, panel: Panel, *, max_side_pixels: int = 1024, with_label: bool = True
) -> Image.Image:
    """Lay one word's map over the image, scaled down to `max_side_pixels` if it is larger."""
    scale = min(1.0, max_side_pixels / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    overlay = _overlay(_resized(image, size), panel)
    if with_label:
        _draw_tag(overlay, panel)
    return overlay


def render_grid(image: Image.Image, caption: str, panels: Sequence[Panel]) -> Image.Image:
    """Make a sheet: the caption on top, then the image itself, then one panel a word, in order.

    The panels shrink as they get more, and wrap so that the sheet is about half as wide again as it
    is high.
    """
    count = 1 + len(panels)
    width, height = _panel_size(image.size, count)
    label_size = min(max(width // 16, _LABEL_SIZES[0]), _LABEL_SIZES[1])
    cell_width, cell_height = max(width, _MIN_CELL_WIDTH), height + round(1.7 * label_size)
    columns = _columns(count, cell_width + _GAP, cell_height + _GAP)
    heading = _heading(caption, columns * (cell_width + _GAP) - _GAP, round(1.5 * label_size))
    rows = math.ceil(count / columns)
    top = _MARGIN + heading.height
    sheet_size = (heading.width + 2 * _MARGIN, top + rows * (cell_height + _GAP) - _GAP + _MARGIN)
    sheet = Image.new("RGB", sheet_size, _BACKGROUND)
    sheet.paste(heading, (_MARGIN, _MARGIN))
    draw = ImageDraw.Draw(sheet)
    small = _resized(image, (width, height))
    mask = _rounded(small.size)
    for number, panel in enumerate([None, *panels]):
        left = _MARGIN + number % columns * (cell_width + _GAP)
        upper = top + number // columns * (cell_height + _GAP)
        sheet.paste(small if panel is None else _overlay(small, panel), (left, upper), mask)
        baseline = upper + height + round(1.25 * label_size)
        label, faint = ("", _IMAGE_LABEL) if panel is None else (panel.label, _percent(panel))
        _draw_label(draw, (left, baseline), label, faint, size=label_size, room=cell_width)
    return sheet


def encode_png(image: Image.Image) -> bytes:
    """Encode as the bytes of a PNG file."""
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _spread(pixels: npt.NDArray[np.float64], cells: int) -> npt.NDArray[np.float64]:
    """Weigh each cell at each pixel along one axis: pixels (P,), in cells, to (P, cells).

    Each row sums to 1.
    """
    # the rim continues the edge: a peak in an edge cell is highest on that cell
    inside = pixels.clip(0.0, cells)
    squared = ((inside[:, None] - (np.arange(cells) + 0.5)[None, :]) / _SIGMA_CELLS) ** 2
    weights: npt.NDArray[np.float64] = np.exp(-0.5 * squared)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _overlay(image: Image.Image, panel: Panel) -> Image.Image:
    """Light the image by the map; same size, RGB."""
    rgb = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0  # (H, W, 3)
    heat = upsample_alpha(panel.alpha, image.size, panel.box)[..., None]  # (H, W, 1)
    gray = rgb @ _LUMINANCE
    dusk = (_DUSK_COLOR_KEPT * rgb + (1 - _DUSK_COLOR_KEPT) * gray[..., None]) * _DUSK_TINT
    # screened: brightens dark pixels, never burns bright ones
    light = 1 - (1 - rgb) * (1 - _LIGHT_STRENGTH * _LIGHT)
    mixed = dusk + (light - dusk) * heat
    return Image.fromarray((mixed * 255.0 + 0.5).clip(0, 255).astype(np.uint8))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    rgb = image.convert("RGB")
    return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _panel_size(size: tuple[int, int], count: int) -> tuple[int, int]:
    """Give a panel's width and height: the image's shape, a bounded share of the sheet's area."""
    least, most = _PANEL_PIXELS
    area = min(max(_SHEET_PIXELS / count, least), most)
    ratio = size[0] / size[1]
    width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
    shrink = min(1.0, _PANEL_SIDES[0] / width, _PANEL_SIDES[1] / height)
    return max(_MIN_PANEL_SIDE, round(width * shrink)), max(_MIN_PANEL_SIDE, round(height * shrink))


def _columns(count: int, width: int, height: int) -> int:
    """Choose how many columns the sheet has: close to its ratio, with few empty places."""

    def badness(columns: int) -> float:
        rows = math.ceil(count / columns)
        off = abs(math.log(columns * width / (rows * height) / _SHEET_RATIO))
        return off + (rows * columns - count) / count

    return min(range(1, count + 1), key=badness)


def _rounded(size: tuple[int, int]) -> Image.Image:
    """Give a mask with rounded corners, drawn at four times its size to make them smooth."""
    mask = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    radius = min(_RADIUS, min(size) // 4) * 4
    ImageDraw.Draw(mask).rounded_rectangle(
        (0, 0, mask.width - 1, mask.height - 1), radius, fill=255
    )
    return mask.resize(size, Image.Resampling.BOX)


def _drawable(text: str) -> str:
    """Fold text to what Pillow's built-in font (plain ASCII) can show.

    é becomes e, curly quotes become straight, controls become spaces. Letters of other scripts
    stay, and are drawn as boxes.
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    folded = (letter for letter in decomposed if not unicodedata.combining(letter))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in folded).split())


def _fitted(text: str, font: Font, width: float) -> str:
    """Cut the text where it is wider than `width`, and end it with dots."""
    if font.getlength(text) <= width:
        return text
    kept = bisect_right(
        range(1, len(text)), width, key=lambda count: font.getlength(text[:count] + "...")
    )
    return text[:kept] + "..."


def _wrapped(text: str, font: Font, width: float) -> list[str]:
    """Break text into lines no wider than `width`; the last is cut where there are too many."""
    lines: list[str] = []
    for word in _drawable(text).split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > _CAPTION_LINES:
        lines[_CAPTION_LINES - 1 :] = [" ".join(lines[_CAPTION_LINES - 1 :])]
    return [_fitted(line, font, width) for line in lines]


def _heading(caption: str, width: int, size: int) -> Image.Image:
    """Draw the caption as a strip of that width, with the gap below it; no caption has no height.

    size: of the letters, in pixels.
    """
    font = ImageFont.load_default(size)
    lines = _wrapped(caption, font, width)
    line_height = round(1.35 * size)
    strip = Image.new(
        "RGB", (width, len(lines) * line_height + (_GAP if lines else 0)), _BACKGROUND
    )
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((0, number * line_height + size), line, font=font, fill=_INK, anchor="ls")
    return strip


def _percent(panel: Panel) -> str:
    return "" if panel.probability is None else f"{panel.probability:.0%}"


def _draw_label(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    label: str,
    faint: str,
    *,
    size: int,
    room: float,
) -> None:
    """Draw a word, and beside it, smaller and fainter, what is known of it.

    at: the word's left end and baseline.
    """
    font, small = ImageFont.load_default(size), ImageFont.load_default(0.8 * size)
    space = size / 2 if label and faint else 0
    word = _fitted(_drawable(label), font, room - space - small.getlength(faint))
    draw.text(at, word, font=font, fill=_INK, anchor="ls")
    draw.text(
        (at[0] + font.getlength(word) + space, at[1]),
        faint,
        font=small,
        fill=_FAINT_INK,
        anchor="ls",
    )


def _draw_tag(image: Image.Image, panel: Panel) -> None:
    """Draw the word and its probability on a dark tag, lower left, where there is room."""
    size = max(14, round(max(image.size) / 32))
    font, small = ImageFont.load_default(size), ImageFont.load_default(0.8 * size)
    word, faint = _drawable(panel.label), _percent(panel)
    room = font.getlength(word) + small.getlength(faint) + (size / 2 if faint else 0)
    width, height = room + size, 2 * size
    margin = size // 2
    if width + 2 * margin > image.width or 3 * height > image.height:
        return
    left, top = margin, image.height - margin - height
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((left, top, left + width, top + height), size // 2, fill=_BACKGROUND)
    _draw_label(draw, (left + size / 2, top + 1.35 * size), word, faint, size=size, room=room + 1)
