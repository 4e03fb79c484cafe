"""What a case of the corpus is: a file made by code, and what is declared to come of it. Knows no
decoder and no service."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from PIL import Image

__all__ = [
    "COLORS",
    "HEIGHT",
    "WIDTH",
    "Captioned",
    "Case",
    "Group",
    "Refused",
    "cases_of",
    "quadrants",
]

Color = tuple[int, int, int]

WIDTH, HEIGHT = 96, 64
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 40), (30, 40, 210), (240, 220, 60)
COLORS: tuple[Color, ...] = (RED, GREEN, BLUE, YELLOW)
"""Of the corpus's picture as a person sees it: top left, top right, bottom left, bottom right."""


@dataclass(frozen=True)
class Captioned:
    """A caption. `size` and `colors` are of the upright picture; None where they are no matter.

    warns: whether the answer tells of missing parts.
    tolerance: how far each color may be off, in steps of 0 to 255.
    """

    size: tuple[int, int] | None = (WIDTH, HEIGHT)
    colors: tuple[Color, ...] | None = None
    warns: bool = False
    tolerance: int = 12


@dataclass(frozen=True)
class Refused:
    """One stable problem: the end of its type, as in `/problems/damaged-image`."""

    code: str


@dataclass(frozen=True)
class Case:
    """One file, and its declared outcome."""

    name: str
    build: Callable[[], bytes]
    outcome: Captioned | Refused
    is_heavy: bool = False  # takes a second or a gigabyte: left to the slow tests


@dataclass(frozen=True)
class Group:
    """One line of the page on images: what is sent, what comes of it in words, and the files."""

    sent: str
    got: str
    cases: tuple[Case, ...]


def cases_of(groups: Iterable[Group]) -> Iterator[Case]:
    """All cases, named after their places."""
    for group in groups:
        yield from group.cases


def quadrants(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Draw the corpus's picture: a color in each quarter, so that any turn or flip shows."""
    image = Image.new("RGB", (width, height))
    boxes = (
        (0, 0, width // 2, height // 2),
        (width // 2, 0, width, height // 2),
        (0, height // 2, width // 2, height),
        (width // 2, height // 2, width, height),
    )
    for box, color in zip(boxes, COLORS, strict=True):
        image.paste(color, box)
    return image
