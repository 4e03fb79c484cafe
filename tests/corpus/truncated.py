"""Every format cut off at each tenth of its bytes, and what is missing only at its very end."""

from functools import partial

from tests.corpus.case import Captioned, Case, Group, Refused
from tests.unit.image_files import FILES

DAMAGED = Refused("damaged-image")
SIZE = Captioned()
TENTHS = range(1, 10)

WHOLE_FROM = {"JPEG multi-picture": 6, "PNG animated": 6, "GIF animated": 6}
"""The tenth at which the first image of a file of several is there whole."""


def cut(name: str, tenth: int) -> bytes:
    data = FILES[name]
    return data[: len(data) * tenth // 10]


def without_end(name: str, size: int) -> bytes:
    return FILES[name][:-size]


STILL = [name for name in FILES if not name.startswith("JPEG") and name not in WHOLE_FROM]
JPEGS = [name for name in FILES if name.startswith("JPEG")]
GROUPS = (
    Group(
        "a file cut off in the middle: PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC",
        "refused: send the complete file",
        tuple(
            Case(f"{name} cut at {tenth}0 %", partial(cut, name, tenth), DAMAGED)
            for name in STILL
            for tenth in TENTHS
        ),
    ),
)
