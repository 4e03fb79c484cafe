"""The smallest and the narrowest pictures, and small ones in files that are too long."""

from functools import partial

from PIL import Image

from tests.corpus.case import COLORS, Captioned, Case, Group, Refused, quadrants
from tests.unit.image_files import encoded

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
TOO_SMALL = Refused("image-too-small")
SEEN = Captioned(colors=COLORS, tolerance=40)
WEBP_MOST = 16_383


def flat(format_name: str, width: int, height: int) -> bytes:
    return encoded(Image.new("RGB", (width, height), (90, 120, 60)), format_name)


def flat_cases(width: int, height: int, outcome: Captioned | Refused) -> tuple[Case, ...]:
    """That size in each format that can have it."""
    return tuple(
        Case(f"{width} x {height} {name}", partial(flat, name, width, height), outcome)
        for name in FORMATS
        if name != "WEBP" or max(width, height) <= WEBP_MOST
    )


def with_zeros_behind(format_name: str) -> bytes:
    """The corpus's picture with a megabyte of zeros behind its end."""
    return encoded(quadrants(), format_name) + bytes(1_000_000)


GROUPS = (
    Group(
        "PNG, WebP, GIF, BMP, TIFF or AVIF with a megabyte of zeros behind its end",
        "captioned",
        tuple(
            Case(f"zeros behind {name}", partial(with_zeros_behind, name), SEEN)
            for name in FORMATS
            if name != "JPEG"
        ),
    ),
    Group(
        "a side shorter than `GLIMPSE_MIN_SIDE_PIXELS` (16): 1 x 1, 1 x 20000, 20000 x 1, 15 x 15",
        "refused",
        flat_cases(1, 1, TOO_SMALL)
        + flat_cases(1, 20_000, TOO_SMALL)
        + flat_cases(20_000, 1, TOO_SMALL)
        + flat_cases(15, 15, TOO_SMALL),
    ),
    Group(
        "as small, or as narrow, as is accepted: 16 x 16, 16 x 20000, 20000 x 16",
        "captioned; the whole picture is squeezed to a square",
        flat_cases(16, 16, Captioned(size=(16, 16)))
        + tuple(
            Case(
                f"{width} x {height} {name}",
                partial(flat, name, width, height),
                Captioned(size=(width, height)),
            )
            for name in ("JPEG", "PNG", "BMP", "TIFF", "GIF")
            for width, height in ((16, 20_000), (20_000, 16))
        ),
    ),
)
