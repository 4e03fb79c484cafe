"""Pictures that are no photos, drawn by chance: noise, plain colors, pages of text, drawings,
charts and windows. A calibration learns from them what a captioner was never taught.

None of them is one of the sixty that a model is judged by (`evaluation.report.made_images`).
"""

from collections.abc import Callable
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_no_photos"]

_Color = tuple[int, int, int]
_LETTERS = "etaoinshrdlcumwfgypbvk"


def draw_no_photos(count: int, seed: int) -> list[Image.Image]:
    """Draw `count` pictures, of each kind the same number or one more; the same for a seed."""
    chance = Random(seed)
    return [_KINDS[number % len(_KINDS)](chance) for number in range(count)]


def _size(chance: Random) -> tuple[int, int]:
    return chance.randrange(240, 900), chance.randrange(240, 900)


def _color(chance: Random, low: int = 0, high: int = 255) -> _Color:
    return chance.randint(low, high), chance.randint(low, high), chance.randint(low, high)


def _paper(chance: Random) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Begin a light picture; every third is white."""
    color = (255, 255, 255) if chance.random() < 0.33 else _color(chance, 190, 255)
    image = Image.new("RGB", _size(chance), color)
    return image, ImageDraw.Draw(image)


def _noise(chance: Random) -> Image.Image:
    """Grains of one size, gray or colored."""
    width, height = _size(chance)
    grain = chance.choice((1, 1, 2, 3, 5, 8))
    channels = chance.choice((1, 3))
    generator = np.random.default_rng(chance.randrange(2**32))
    shape = (height // grain, width // grain, channels)
    spread = chance.uniform(8, 90)
    values = generator.normal(chance.uniform(60, 190), spread, shape).clip(0, 255)
    pixels = np.broadcast_to(values, (*shape[:2], 3)).astype(np.uint8)
    how = chance.choice((Image.Resampling.NEAREST, Image.Resampling.BICUBIC))
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), how)


def _plain(chance: Random) -> Image.Image:
    """One color, or a gradient between two; often black or white, or nearly so."""
    ends = ((0, 0, 0), (255, 255, 255), _color(chance, 0, 30), _color(chance, 225, 255))
    first = chance.choice((*ends, _color(chance), _color(chance)))
    if chance.random() < 0.6:
        return Image.new("RGB", _size(chance), first)
    width, height = _size(chance)
    share = np.linspace(0, 1, height)[:, None, None]
    colors = (1 - share) * np.array(first) + share * np.array(_color(chance))
    pixels = np.broadcast_to(colors, (height, width, 3)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image.transpose(Image.Transpose.TRANSPOSE) if chance.random() < 0.5 else image


def _text(chance: Random) -> Image.Image:
    """Lines of words that mean nothing, in one or two columns."""
    image, draw = _paper(chance)
    size = chance.randrange(11, 40)
    font = ImageFont.load_default(size)
    margin = chance.randrange(5, 60)
    ink = _color(chance, 0, 90)
    columns = chance.choice((1, 1, 2))
    width = (image.width - margin) // columns
    for column in range(columns):
        top = margin
        while top < image.height - margin:
            if chance.random() < 0.88:
                line = _words(chance, max(1, int((width - margin) / (size * 3.2))))
                draw.text((margin + column * width, top), line, font=font, fill=ink)
            top += int(size * 1.4)
    return image


def _words(chance: Random, count: int) -> str:
    """Make up words; a few are numbers."""
    words = []
    for _ in range(count):
        if chance.random() < 0.12:
            words.append(f"{chance.uniform(0, 1000):.2f}")
        else:
            words.append("".join(chance.choices(_LETTERS, k=chance.randrange(2, 10))))
    return " ".join(words)


def _drawing(chance: Random) -> Image.Image:
    """Filled and outlined shapes, as of a child or in a sign."""
    image, draw = _paper(chance)
    ink = _color(chance, 0, 80)
    for _ in range(chance.randrange(1, 12)):
        box = _box(chance, image)
        fill = chance.choice((None, _color(chance), ink))
        width = chance.randrange(1, 9)
        kind = chance.randrange(4)
        if kind == 0:
            draw.ellipse(box, fill=fill, outline=ink, width=width)
        elif kind == 1:
            draw.rectangle(box, fill=fill, outline=ink, width=width)
        elif kind == 2:
            points = [_point(chance, image) for _ in range(chance.randrange(3, 9))]
            draw.polygon(points, fill=fill, outline=ink, width=width)
        else:
            draw.arc(box, chance.randrange(360), chance.randrange(360), fill=ink, width=width)
    return image


def _lines(chance: Random) -> Image.Image:
    """Strokes on paper, straight or winding; sometimes light ones on dark."""
    image, draw = _paper(chance)
    ink = _color(chance, 0, 110)
    if chance.random() < 0.25:
        draw.rectangle((0, 0, *image.size), fill=_color(chance, 0, 50))
        ink = _color(chance, 180, 255)
    for _ in range(chance.randrange(2, 25)):
        points = [_point(chance, image) for _ in range(chance.randrange(2, 7))]
        draw.line(points, fill=ink, width=chance.randrange(1, 8), joint="curve")
    return image


def _chart(chance: Random) -> Image.Image:
    """Axes with bars, a curve or points."""
    image, draw = _paper(chance)
    width, height = image.size
    ink = _color(chance, 0, 80)
    left, bottom = width // 8, height * 7 // 8
    draw.line((left, height // 10, left, bottom, width * 9 // 10, bottom), fill=ink, width=2)
    count = chance.randrange(3, 16)
    step = (width * 8 // 10 - 10) / count
    tops = [chance.randrange(height // 8, bottom) for _ in range(count)]
    color = _color(chance, 20, 210)
    places = [(left + 10 + step * number, top) for number, top in enumerate(tops)]
    kind = chance.randrange(3)
    for across, top in places:
        if kind == 0:
            draw.rectangle((across, top, across + 0.7 * step, bottom), fill=color)
        elif kind == 1:
            draw.ellipse((across - 4, top - 4, across + 4, top + 4), fill=color)
    if kind == 2:
        draw.line(places, fill=color, width=3)
    font = ImageFont.load_default(chance.randrange(10, 24))
    draw.text((left, 4), _words(chance, 3), font=font, fill=ink)
    draw.text((left, bottom + 4), _words(chance, count // 2), font=font, fill=ink)
    return image


def _window(chance: Random) -> Image.Image:
    """Bars, boxes and words, as a screen shows them."""
    image = Image.new("RGB", _size(chance), _color(chance, 200, 250))
    draw = ImageDraw.Draw(image)
    bar = chance.randrange(20, 70)
    draw.rectangle((0, 0, image.width, bar), fill=_color(chance))
    font = ImageFont.load_default(chance.randrange(11, 24))
    draw.text((12, bar // 4), _words(chance, 3), font=font, fill=(255, 255, 255))
    for _ in range(chance.randrange(4, 20)):
        left, top, right, bottom = _box(chance, image)
        box = (left, max(top, bar), right, max(bottom, bar))
        draw.rounded_rectangle(box, chance.choice((0, 4, 12)), fill=_color(chance, 150, 255))
        inside = (left + 6, max(top, bar) + 6)
        draw.text(inside, _words(chance, 2), font=font, fill=_color(chance, 0, 70))
    return image


def _box(chance: Random, image: Image.Image) -> tuple[int, int, int, int]:
    """Draw a box of some size anywhere."""
    (left, top), (right, bottom) = _point(chance, image), _point(chance, image)
    return min(left, right), min(top, bottom), max(left, right) + 24, max(top, bottom) + 24


def _point(chance: Random, image: Image.Image) -> tuple[int, int]:
    return chance.randrange(image.width), chance.randrange(image.height)


_KINDS: tuple[Callable[[Random], Image.Image], ...] = (
    _noise,
    _plain,
    _text,
    _drawing,
    _lines,
    _chart,
    _window,
)
