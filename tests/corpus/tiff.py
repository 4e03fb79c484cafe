"""TIFF in its compressions, byte orders, depths and layouts."""

import struct
from functools import partial

import numpy as np
from PIL import Image

from tests.corpus.case import COLORS, HEIGHT, WIDTH, Captioned, Case, Group, Refused, quadrants
from tests.unit.image_files import encoded

DAMAGED = Refused("damaged-image")
SEEN = Captioned(colors=COLORS, tolerance=20)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
SIDES = Captioned(colors=(BLACK, WHITE, BLACK, WHITE), tolerance=2)
COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg")


def compressed(name: str) -> bytes:
    return encoded(quadrants(), "TIFF", compression=name)


def halves(kind: str, white: float) -> bytes:
    """The left half black, the right half white, as numbers of that kind."""
    values = np.zeros((HEIGHT, WIDTH), dtype=kind)
    values[:, WIDTH // 2 :] = white
    return encoded(Image.fromarray(values), "TIFF")


def fax() -> bytes:
    """Black and white, as fax machines code it."""
    image = Image.new("1", (WIDTH, HEIGHT), 1)
    image.paste(0, (0, 0, WIDTH // 2, HEIGHT))
    return encoded(image, "TIFF", compression="group4")


def ending_in_nan() -> bytes:
    """Floats of 0 to 1, one of them not a number and one infinite."""
    values = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    values[:, WIDTH // 2 :] = 1.0
    values[0, 0], values[1, 0] = np.nan, np.inf
    return encoded(Image.fromarray(values), "TIFF")


def of_samples(samples: int) -> bytes:
    """A TIFF of three colors that announces so many samples a pixel."""
    data = bytearray(encoded(quadrants(), "TIFF"))
    data[data.index(struct.pack("<HHL", 277, 3, 1)) + 8] = samples
    return bytes(data)


GROUPS = (
    Group(
        "TIFF of more than 6 samples a pixel",
        "refused: save it again as JPEG or PNG",
        tuple(
            Case(f"TIFF of {samples} samples", partial(of_samples, samples), DAMAGED)
            for samples in (7, 200)
        ),
    ),
    Group(
        "TIFF: uncompressed, LZW, Deflate, PackBits, JPEG, fax; BigTIFF; either byte order; CMYK",
        "captioned",
        (
            *(
                Case(f"TIFF {name}", lambda name=name: compressed(name), SEEN)  # type: ignore[misc]
                for name in COMPRESSIONS
            ),
            Case("TIFF fax", fax, SIDES),
            Case("TIFF BigTIFF", lambda: encoded(quadrants(), "TIFF", big_tiff=True), SEEN),
            Case(
                "TIFF CMYK",
                lambda: encoded(quadrants().convert("CMYK"), "TIFF"),
                Captioned(colors=COLORS, tolerance=40),
            ),
            Case("TIFF LAB", lambda: encoded(Image.new("LAB", (96, 64)), "TIFF"), Captioned()),
            Case("TIFF palette", lambda: encoded(quadrants().quantize(4), "TIFF"), SEEN),
            Case("TIFF 16 bit big-endian", lambda: halves(">u2", 65535), SIDES),
        ),
    ),
    Group(
        "TIFF of 16 or 32 bits or floating point numbers a sample",
        "scaled to 8 bits: white is the smallest of 1 (floating point), 255 and 65535 that no "
        "value exceeds; beyond those, or with negative values, darkest to brightest",
        (
            Case("TIFF 16 bit", lambda: halves("<u2", 65535), SIDES),
            Case("TIFF 32 bit", lambda: halves("<i4", 65535), SIDES),
            Case("TIFF float of 0 to 1", lambda: halves("<f4", 1.0), SIDES),
            Case("TIFF float of 0 to 255", lambda: halves("<f4", 255.0), SIDES),
            Case("TIFF float of 0 to 1e9", lambda: halves("<f4", 1e9), SIDES),
            Case("TIFF float with NaN", ending_in_nan, SIDES),
        ),
    ),
)
