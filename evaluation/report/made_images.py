"""Images that nobody had to photograph: noise, text, screenshots and drawings, made by code.

The same on every machine that has the same Pillow. Knows no files and no models.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

__all__ = ["ALTERED", "MADE"]

_SIZE = (640, 480)
_INK = (32, 33, 36)
_PAPER = (255, 255, 255)
_TEXT = (
    "The meeting of the members takes place on the second Tuesday of each month at half past "
    "seven in the small hall. Please send what you would like to have on the agenda to the "
    "secretary a week before. The report of the treasurer is attached, as are the minutes of "
    "the last meeting. Whoever cannot come may name somebody who votes in their place."
)


def _colored_noise() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _gray_noise() -> Image.Image:
    """Coarse grains, as of a film that was not exposed."""
    pixels = np.random.default_rng(1).normal(128, 40, (120, 160)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize(_SIZE, Image.Resampling.BILINEAR).convert("RGB")


def _black() -> Image.Image:
    return Image.new("RGB", _SIZE, (0, 0, 0))


def _white() -> Image.Image:
    return Image.new("RGB", _SIZE, _PAPER)


def _document() -> Image.Image:
    image, draw = _paper((620, 877))
    draw.text((60, 60), "Invitation to the meeting", font=ImageFont.load_default(34), fill=_INK)
    _paragraph(draw, (60, 140, 560), f"{_TEXT} {_TEXT}", size=20)
    _paragraph(draw, (60, 520, 560), _TEXT, size=20)
    draw.text((60, 800), "The board", font=ImageFont.load_default(20), fill=_INK)
    return image


def _receipt() -> Image.Image:
    image, draw = _paper((360, 640))
    font = ImageFont.load_default(20)
    draw.text((110, 30), "CORNER SHOP", font=font, fill=_INK)
    bought = {"bread": "2.80", "butter": "3.19", "apples 1.2 kg": "3.58", "milk 2 x": "2.38"}
    for number, (name, price) in enumerate(bought.items()):
        draw.text((30, 110 + 40 * number), name, font=font, fill=_INK)
        draw.text((270, 110 + 40 * number), price, font=font, fill=_INK)
    draw.line((30, 290, 330, 290), fill=_INK, width=2)
    draw.text((30, 310), "TOTAL", font=font, fill=_INK)
    draw.text((260, 310), "11.95", font=font, fill=_INK)
    draw.text((60, 420), "Thank you, come again", font=font, fill=_INK)
    return image


def _program_screenshot() -> Image.Image:
    """A window with a menu, a list of files at the left and a table."""
    image = Image.new("RGB", (1024, 640), (236, 238, 241))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(18)
    draw.rectangle((0, 0, 1024, 36), fill=(52, 73, 94))
    draw.text((16, 8), "accounts-2024 - Table", font=font, fill=_PAPER)
    draw.text((16, 48), "File   Edit   View   Insert   Format   Help", font=font, fill=_INK)
    draw.rectangle((0, 84, 200, 640), fill=(222, 226, 231))
    for number in range(12):
        draw.text((20, 100 + 40 * number), f"month-{number + 1:02}", font=font, fill=_INK)
    draw.rectangle((216, 96, 1008, 624), fill=_PAPER)
    for row in range(13):
        top = 96 + 40 * row
        draw.line((216, top, 1008, top), fill=(200, 204, 210))
        for column in range(6):
            left = 216 + 132 * column
            draw.line((left, 96, left, 624), fill=(200, 204, 210))
            value = (37 * row + 91 * column) % 997
            draw.text((left + 12, top + 10), f"{value}.00", font=font, fill=_INK)
    return image


def _chat_screenshot() -> Image.Image:
    """Bubbles of two people, as on a telephone."""
    image = Image.new("RGB", (390, 780), (229, 221, 213))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(18)
    draw.rectangle((0, 0, 390, 70), fill=(7, 94, 84))
    draw.text((70, 24), "Family", font=font, fill=_PAPER)
    said = [
        (False, "Are you coming on Sunday?"),
        (True, "Yes, at three"),
        (False, "Shall I bring a cake?"),
        (True, "Please do!"),
        (False, "And the children?"),
        (True, "They come with me"),
        (False, "See you then"),
    ]
    for number, (is_own, text) in enumerate(said):
        width = font.getlength(text) + 28
        left = 376 - width if is_own else 14
        top = 100 + 88 * number
        color = (220, 248, 198) if is_own else _PAPER
        draw.rounded_rectangle((left, top, left + width, top + 54), 14, fill=color)
        draw.text((left + 14, top + 16), text, font=font, fill=_INK)
    return image


def _house() -> Image.Image:
    """A house, a tree and the sun, as a child draws them."""
    image = Image.new("RGB", _SIZE, (196, 228, 250))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 360, 640, 480), fill=(120, 190, 90))
    draw.ellipse((520, 30, 610, 120), fill=(255, 214, 60))
    draw.rectangle((190, 220, 410, 400), fill=(224, 160, 110), outline=_INK, width=4)
    draw.polygon([(170, 220), (300, 110), (430, 220)], fill=(180, 60, 50), outline=_INK, width=4)
    draw.rectangle((275, 300, 325, 400), fill=(110, 70, 40), outline=_INK, width=4)
    for left in (210, 345):
        draw.rectangle((left, 250, left + 45, 290), fill=_PAPER, outline=_INK, width=4)
    draw.rectangle((500, 290, 520, 400), fill=(110, 70, 40))
    draw.ellipse((455, 180, 565, 310), fill=(60, 140, 60), outline=_INK, width=4)
    return image


def _stick_figures() -> Image.Image:
    image, draw = _paper(_SIZE)
    for left in (220, 400):
        draw.ellipse((left - 35, 90, left + 35, 160), outline=_INK, width=5)
        for line in (
            (left, 160, left, 300),
            (left - 60, 210, left + 60, 210),
            (left, 300, left - 50, 410),
            (left, 300, left + 50, 410),
        ):
            draw.line(line, fill=_INK, width=5)
    return image


def _smiling_face() -> Image.Image:
    image, draw = _paper((480, 480))
    draw.ellipse((60, 60, 420, 420), fill=(255, 221, 51), outline=_INK, width=6)
    for left in (160, 280):
        draw.ellipse((left, 160, left + 40, 220), fill=_INK)
    draw.arc((140, 170, 340, 340), 20, 160, fill=_INK, width=10)
    return image


def _bar_chart() -> Image.Image:
    image, draw = _paper(_SIZE)
    font = ImageFont.load_default(20)
    draw.text((190, 20), "Visitors by month", font=font, fill=_INK)
    draw.line((80, 60, 80, 420), fill=_INK, width=3)
    draw.line((80, 420, 600, 420), fill=_INK, width=3)
    names = ("Jan", "Feb", "Mar", "Apr", "May", "Jun")
    for number, (name, height) in enumerate(zip(names, (90, 130, 170, 240, 310, 280), strict=True)):
        left = 105 + 82 * number
        draw.rectangle((left, 420 - height, left + 55, 420), fill=(52, 120, 190))
        draw.text((left + 8, 430), name, font=font, fill=_INK)
    return image


def _paper(size: tuple[int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", size, _PAPER)
    return image, ImageDraw.Draw(image)


def _paragraph(
    draw: ImageDraw.ImageDraw, place: tuple[int, int, int], text: str, *, size: int
) -> None:
    """Set a text in lines; place: left, top and right end, in pixels."""
    left, top, right = place
    font = ImageFont.load_default(size)
    line = ""
    for word in text.split():
        if font.getlength(f"{line} {word}") > right - left:
            draw.text((left, top), line, font=font, fill=_INK)
            top += size * 3 // 2
            line = ""
        line = f"{line} {word}".strip()
    draw.text((left, top), line, font=font, fill=_INK)


def _blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(image.width / 50))


def _darken(image: Image.Image) -> Image.Image:
    return image.point(lambda value: value * 0.08)


def _turn(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.ROTATE_180)


MADE: dict[str, Callable[[], Image.Image]] = {
    "bar_chart": _bar_chart,
    "black": _black,
    "chat_screenshot": _chat_screenshot,
    "colored_noise": _colored_noise,
    "document": _document,
    "gray_noise": _gray_noise,
    "house": _house,
    "program_screenshot": _program_screenshot,
    "receipt": _receipt,
    "smiling_face": _smiling_face,
    "stick_figures": _stick_figures,
    "white": _white,
}
"""Images by their names."""

ALTERED: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "blurred_cat": ("chelsea.png", _blur),
    "dark_motorcycle": ("motorcycle_left.png", _darken),
    "turned_astronaut": ("astronaut.png", _turn),
}
"""Photos that something happened to, by their names: a file of scikit-image, and what."""
