"""AVIF and HEIC: the pictures of newer phones, both in boxes of ISO base media files."""

from io import BytesIO

import pillow_heif

from tests.corpus.case import COLORS, Captioned, Case, Group, quadrants
from tests.unit.image_files import encoded, textured

SEEN = Captioned(colors=COLORS, tolerance=24)


def heic(*, others: int = 0, **options: object) -> bytes:
    """The picture as an iPhone stores it; `others` more images beside it."""
    file = pillow_heif.from_pillow(quadrants())
    for _ in range(others):
        file.add_from_pillow(textured())
    buffer = BytesIO()
    file.save(buffer, format="HEIF", quality=90, **options)
    return buffer.getvalue()


def of_brand(data: bytes, brand: bytes) -> bytes:
    """The same file under another of the brands that its readers know."""
    return data[:8] + brand + data[12:]


AVIF = Group(
    "AVIF: lossy, lossless, transparent",
    "captioned",
    (
        Case("AVIF", lambda: encoded(quadrants(), "AVIF", quality=90), SEEN),
        Case("AVIF 4:4:4", lambda: encoded(quadrants(), "AVIF", subsampling="4:4:4"), SEEN),
        Case(
            "AVIF alpha",
            lambda: encoded(quadrants().convert("RGBA"), "AVIF", quality=90),
            SEEN,
        ),
        Case(
            "AVIF brand mif1",
            lambda: of_brand(encoded(quadrants(), "AVIF", quality=90), b"mif1"),
            SEEN,
        ),
    ),
)
HEIC = Group(
    "HEIC and HEIF, of one or several images (where the setting accepts them)",
    "the primary image is captioned",
    (
        Case("HEIC", heic, SEEN),
        Case("HEIC of three images", lambda: heic(others=2), SEEN),
        Case("HEIC primary is the second", lambda: heic(others=1, primary_index=1), Captioned()),
        Case("HEIF brand mif1", lambda: of_brand(heic(), b"mif1"), SEEN),
        Case("HEIF sequence brand msf1", lambda: of_brand(heic(), b"msf1"), SEEN),
    ),
)
GROUPS = (AVIF, HEIC)
