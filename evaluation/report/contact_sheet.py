"""Many small images on one sheet, each with a line of text below. Pillow only."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_contact_sheet"]

_GAP_PIXELS = 8
_TEXT_SIZE = 12
_LINE_PIXELS = 15
_BACKGROUND = (255, 255, 255)
_INK = (32, 33, 36)


def draw_contact_sheet(
    cells: Sequence[tuple[str, Image.Image]], side_pixels: int, columns: int = 8
) -> Image.Image:
    """Draw images within squares of so many pixels, in reading order, each above its text."""
    font = ImageFont.load_default(_TEXT_SIZE)
    texts = [_wrap(text, font, side_pixels) for text, _ in cells]
    height = side_pixels + _GAP_PIXELS + _LINE_PIXELS * max(map(len, texts), default=0)
    rows = -(-len(cells) // columns)
    across = side_pixels + _GAP_PIXELS
    size = (columns * across + _GAP_PIXELS, rows * height + _GAP_PIXELS)
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for place, ((_, image), lines) in enumerate(zip(cells, texts, strict=True)):
        left = _GAP_PIXELS + place % columns * across
        top = _GAP_PIXELS + place // columns * height
        small = image.copy()
        small.thumbnail((side_pixels, side_pixels))
        sheet.paste(small, (left, top))
        draw.rectangle((left, top, left + small.width - 1, top + small.height - 1), outline=_INK)
        for number, line in enumerate(lines):
            at = (left, top + side_pixels + number * _LINE_PIXELS)
            draw.text(at, line, fill=_INK, font=font)
    return sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break a text into lines at its spaces."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
