"""A made-up world of two drawn shapes an image, with true captions and boxes. Needs no data.

Small enough that a captioner learns it in minutes, and exact enough to check what it learnt: a
caption is right if and only if it is one of the image's captions, and the map of "circle" is
right if it lies in the circle's box.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from models.geometry import Box

__all__ = ["COLORS", "SHAPES", "SyntheticImage", "generate", "write"]


SHAPES = ("circle", "square", "triangle")
COLORS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 90, 200),
    "yellow": (240, 200, 20),
}
_RELATIONS = {"vertical": ("above", "below"), "horizontal": ("to the left of", "to the right of")}
_MARGIN = 0.03  # to the edge, as a share of the side
_GAP = 0.06  # between the shapes
_SIDE = (0.24, 0.36)  # a shape's side, as a share of the image's
_NOISE = 6.0  # standard deviation of a noisy background, on the 0..255 scale


@dataclass(frozen=True, slots=True)
class SyntheticImage:
    """One image (RGB), every caption that is true of it, and the box of each shape by its word.

    boxes: (left, top, right, bottom) in fractions of width and height, tight around the shape.
    """

    image: Image.Image
    captions: tuple[str, ...]
    boxes: dict[str, Box]


def generate(count: int, seed: int, size_pixels: int = 224) -> list[SyntheticImage]:
    """Draw `count` images of `size_pixels` square.

    The same seed gives the same, and a longer list starts alike.
    """
    randoms = (np.random.default_rng((seed, number)) for number in range(count))
    return [_draw_image(random, size_pixels) for random in randoms]


def write(
    folder: Path, *, train_count: int, dev_count: int, seed: int, size_pixels: int = 224
) -> None:
    """Write a set of kind 'jsonl': train.jsonl, dev.jsonl, images/, and boxes.json.

    Boxes are by file and shape.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images = generate(train_count + dev_count, seed, size_pixels)
    boxes: dict[str, dict[str, Box]] = {}
    for split, part in (("train", images[:train_count]), ("dev", images[train_count:])):
        lines = []
        for number, each in enumerate(part):
            file = f"images/{split}-{number:05d}.png"
            each.image.save(folder / file)
            boxes[file] = each.boxes
            lines.append(json.dumps({"file": file, "captions": each.captions}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "boxes.json").write_text(json.dumps(boxes) + "\n", encoding="utf-8")


def _draw_image(random: np.random.Generator, size_pixels: int) -> SyntheticImage:
    shapes = [str(shape) for shape in random.permutation(SHAPES)[:2]]
    colors = [str(color) for color in random.permutation(list(COLORS))[:2]]
    axis = str(random.choice(list(_RELATIONS)))
    places = _place(random, size_pixels)
    boxes = [
        (x, y, x + side, y + side) if axis == "horizontal" else (y, x, y + side, x + side)
        for x, y, side in places
    ]
    image = _background(random, size_pixels)
    for shape, color, box in zip(shapes, colors, boxes, strict=True):
        _draw(image, shape, COLORS[color], box)
    first, second = (f"a {color} {shape}" for shape, color in zip(shapes, colors, strict=True))
    forward, backward = _RELATIONS[axis]
    return SyntheticImage(
        image=image,
        captions=(f"{first} {forward} {second}", f"{second} {backward} {first}"),
        boxes={
            shape: _fractions(box, size_pixels) for shape, box in zip(shapes, boxes, strict=True)
        },
    )


def _place(random: np.random.Generator, size_pixels: int) -> list[tuple[int, int, int]]:
    """Place two squares as (along, across, side) in pixels: apart along, overlapping across."""
    sides = random.uniform(*_SIDE, size=2)
    free = 1.0 - 2 * _MARGIN - _GAP - sides.sum()
    before, between = np.sort(random.uniform(0.0, free, size=2))
    starts = (_MARGIN + before, _MARGIN + between + sides[0] + _GAP)
    center = random.uniform(_MARGIN + sides.max() / 2, 1.0 - _MARGIN - sides.max() / 2)
    places = []
    for start, side in zip(starts, sides, strict=True):
        across = center - side / 2 + random.uniform(-0.2, 0.2) * side
        across = min(max(across, _MARGIN), 1.0 - _MARGIN - side)
        along, across, side = (round(float(value) * size_pixels) for value in (start, across, side))
        places.append((along, across, side))
    return places


def _background(random: np.random.Generator, size_pixels: int) -> Image.Image:
    pixels = np.full((size_pixels, size_pixels, 3), random.uniform(215.0, 250.0, size=3))
    if random.random() < 0.5:
        pixels += random.normal(0.0, _NOISE, size=pixels.shape)
    return Image.fromarray(pixels.clip(0.0, 255.0).astype(np.uint8))


def _draw(image: Image.Image, shape: str, color: tuple[int, int, int], box: Sequence[int]) -> None:
    left, top = box[0], box[1]
    right, bottom = box[2] - 1, box[3] - 1  # Pillow counts the last pixel in
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse((left, top, right, bottom), fill=color)
    elif shape == "square":
        draw.rectangle((left, top, right, bottom), fill=color)
    else:
        draw.polygon([((left + right) / 2, top), (right, bottom), (left, bottom)], fill=color)


def _fractions(box: Sequence[int], size_pixels: int) -> Box:
    return Box(*(value / size_pixels for value in box))
