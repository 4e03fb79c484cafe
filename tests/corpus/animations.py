"""GIF and WebP, still and moving, and files of several images: the first one counts."""

import struct

from PIL import Image

from tests.corpus import png
from tests.corpus.case import COLORS, Captioned, Case, Group, Refused, quadrants
from tests.unit.image_files import encoded, textured

SEEN = Captioned(colors=COLORS, tolerance=20)
DAMAGED = Refused("damaged-image")
WHITE = (255, 255, 255)


def moving(format_name: str, **options: object) -> bytes:
    """An animation of the picture and of noise."""
    return encoded(quadrants(), format_name, save_all=True, append_images=[textured()], **options)


def gif_of_zero_frames() -> bytes:
    """A header, a palette, and the end."""
    return b"GIF89a" + struct.pack("<HHBBB", 96, 64, 0x80, 0, 0) + bytes(6) + b";"


def gif_of_zeros() -> bytes:
    """A megabyte of zeros before the picture."""
    data = encoded(quadrants(), "GIF")
    screen = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    return data[:screen] + bytes(1_000_000) + data[screen:]


def gif_with_comment() -> bytes:
    """A comment of 50 kB, in blocks, before the picture."""
    data = encoded(quadrants(), "GIF")
    screen = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    comment = b"!\xfe" + (b"\xff" + b"a" * 255) * 200 + b"\0"
    return data[:screen] + comment + data[screen:]


def transparent(format_name: str, **options: object) -> bytes:
    image = quadrants().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 32, 96, 64))
    return encoded(image, format_name, **options)


def frame_at(offset: tuple[int, int]) -> bytes:
    """A GIF whose only frame covers the right half of its screen."""
    half = quadrants().crop((48, 0, 96, 64))
    data = bytearray(encoded(half, "GIF"))
    data[6:10] = struct.pack("<HH", 96, 64)
    frame = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[frame + 1 : frame + 5] = struct.pack("<HH", *offset)
    return bytes(data)


UPPER = Captioned(colors=(COLORS[0], COLORS[1], WHITE, WHITE), tolerance=20)
GROUPS = (
    Group(
        "GIF, WebP lossy, WebP lossless; transparent ones",
        "captioned; what is transparent is white",
        (
            Case("GIF", lambda: encoded(quadrants(), "GIF"), SEEN),
            Case("GIF interlaced", lambda: encoded(quadrants(), "GIF", interlace=1), SEEN),
            Case("GIF transparent", lambda: transparent("GIF"), UPPER),
            Case("GIF comment", gif_with_comment, SEEN),
            Case("GIF frame smaller than its screen", lambda: frame_at((48, 0)), Captioned()),
            Case("WebP lossy", lambda: encoded(quadrants(), "WEBP", quality=90), SEEN),
            Case("WebP lossless", lambda: encoded(quadrants(), "WEBP", lossless=True), SEEN),
            Case("WebP transparent", lambda: transparent("WEBP", lossless=True), UPPER),
            Case(
                "WebP color profile",
                lambda: encoded(quadrants(), "WEBP", icc_profile=b"profile" * 9_000),
                SEEN,
            ),
        ),
    ),
    Group(
        "an animation: GIF, WebP, APNG, AVIF; a TIFF of several pages",
        "its first frame or page is captioned",
        (
            Case("GIF animated", lambda: moving("GIF"), SEEN),
            Case("WebP animated", lambda: moving("WEBP", quality=90), SEEN),
            Case("WebP animated lossless", lambda: moving("WEBP", lossless=True), SEEN),
            Case("APNG", png.animated, SEEN),
            Case("AVIF sequence", lambda: moving("AVIF", quality=90), SEEN),
            Case("TIFF multi-page", lambda: moving("TIFF"), SEEN),
            Case(
                "TIFF of 50 pages",
                lambda: encoded(
                    quadrants(),
                    "TIFF",
                    save_all=True,
                    append_images=[Image.new("L", (20, 20))] * 49,
                ),
                SEEN,
            ),
        ),
    ),
    Group(
        "a GIF of no frame, or with something else than blocks before its frame",
        "refused",
        (
            Case("GIF of zero frames", gif_of_zero_frames, DAMAGED),
            Case("GIF of zeros", gif_of_zeros, DAMAGED),
        ),
    ),
)
