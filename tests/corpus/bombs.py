"""Files that promise far more than they hold, or cost far more than they weigh."""

import io
import struct
import zipfile
import zlib
from functools import cache, partial

import numpy as np
from PIL import Image

from tests.corpus import bmp, png
from tests.corpus.case import COLORS, Captioned, Case, Group, Refused, quadrants
from tests.unit.image_files import encoded

SEEN = Captioned(colors=COLORS, tolerance=20)
TOO_MANY = Refused("too-many-pixels")
DAMAGED = Refused("damaged-image")
HUGE = (20_000, 10_000)


def flat_png(width: int, height: int, depth: int = 1, color: int = 0) -> bytes:
    """A PNG of zeros, packed without ever holding them."""
    samples = {0: 1, 2: 3, 6: 4}[color]
    row = bytes(1 + (width * depth * samples + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png.joined(
        (b"IHDR", png.header(width, height, depth, color)), (b"IDAT", packed), (b"IEND", b"")
    )


def huge_jpeg() -> bytes:
    """A small JPEG whose frame announces 65,500 x 65,500 pixels."""
    data = bytearray(encoded(quadrants(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


def huge_gif_screen() -> bytes:
    data = bytearray(encoded(quadrants(), "GIF"))
    data[6:10] = struct.pack("<HH", 65_535, 65_535)
    return bytes(data)


def huge_gif_frame() -> bytes:
    """A frame of 65,535 x 65,535 on a screen of 96 x 64."""
    data = bytearray(encoded(quadrants(), "GIF"))
    frame = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[frame + 5 : frame + 9] = struct.pack("<HH", 65_535, 65_535)
    return bytes(data)


def huge_webp() -> bytes:
    """A canvas of 16,383 x 16,383 around a small picture."""
    canvas = (16_382).to_bytes(3, "little") * 2
    small = encoded(quadrants(), "WEBP")[12:]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas + small
    return b"RIFF" + struct.pack("<I", len(body)) + body


def huge_avif() -> bytes:
    """A small picture whose boxes announce 60,000 x 60,000."""
    data = encoded(quadrants(), "AVIF")
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", 60_000, 60_000) + data[at + 8 :]


def huge_tiff() -> bytes:
    """One strip of nothing for 60,000 x 60,000 pixels."""
    return tiff_of(
        [
            (256, 4, 1, 60_000),
            (257, 4, 1, 60_000),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, 1, 200),
            (279, 4, 1, 6_144),
        ]
    )


def tiff_of(tags: list[tuple[int, int, int, int]], next_directory: int = 0) -> bytes:
    """A TIFF of one directory: (tag, type, count, value) each, with pixels behind."""
    start = 8
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<L", next_directory)
    return b"II*\0" + struct.pack("<L", start) + directory + bytes(6_500)


def gray_tiff(*more: tuple[int, int, int, int], next_directory: int = 0) -> bytes:
    """A black TIFF of 96 x 64 with more tags, and a next directory."""
    tags = [
        (256, 4, 1, 96),
        (257, 4, 1, 64),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 200),
        (278, 4, 1, 64),
        (279, 4, 1, 6_144),
        *more,
    ]
    return tiff_of(sorted(tags), next_directory)


def float_tiff(side: int) -> bytes:
    """Floats of zero, packed: 7,000 x 7,000 of them are 196 MB from a few hundred kB."""
    return encoded(
        Image.fromarray(np.zeros((side, side), dtype=np.float32)),
        "TIFF",
        compression="tiff_adobe_deflate",
    )


def png_of_length(kind: bytes, length: int) -> bytes:
    """A PNG whose second chunk announces so many bytes."""
    data = encoded(quadrants(), "PNG")
    return data[:33] + struct.pack(">I", length) + kind + data[41:]


@cache
def packed_zeros(megabytes: int) -> bytes:
    return zlib.compress(bytes(megabytes * 1_000_000), 9)


def deep_text(kind: bytes, megabytes: int, times: int) -> bytes:
    """Chunks of compressed text, each of so many megabytes of zeros."""
    packed = packed_zeros(megabytes)
    head = b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0"
    return png.with_chunk(kind, head + packed, times)


def zip_bomb() -> bytes:
    """100 MB of zeros in 100 kB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("photo.jpg", bytes(100_000_000))
    return buffer.getvalue()


def progressive_scans(before: bytes) -> bytes:
    """A progressive JPEG whose last scan is there 300 times, behind these bytes."""
    data = encoded(quadrants(), "JPEG", progressive=True)
    scan = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + before + scan * 300 + data[-2:]


def riff_of_length(length: int) -> bytes:
    data = encoded(quadrants(), "WEBP")
    return data[:4] + struct.pack("<I", length) + data[8:]


def box_of_length(length: int) -> bytes:
    """An AVIF whose box of metadata announces so many bytes."""
    data = encoded(quadrants(), "AVIF")
    at = data.index(b"meta") - 4
    return data[:at] + struct.pack(">I", length) + data[at + 4 :]


PIXELS = Group(
    "a small file that announces more than `GLIMPSE_MAX_PIXELS` (50 megapixels)",
    "refused from its header; no pixel is decoded",
    (
        Case("bomb PNG", partial(flat_png, *HUGE), TOO_MANY),
        Case("bomb PNG header", lambda: flat_png(*HUGE)[:60], TOO_MANY),
        Case("bomb JPEG", huge_jpeg, TOO_MANY),
        Case("bomb GIF screen", huge_gif_screen, TOO_MANY),
        Case("bomb GIF frame", huge_gif_frame, TOO_MANY),
        Case("bomb WebP canvas", huge_webp, TOO_MANY),
        Case("bomb BMP", lambda: bmp.bitmap(b"", 24, size=HUGE), TOO_MANY),
        Case("bomb BMP from the top", lambda: bmp.bitmap(b"", 24, size=(20_000, -9_000)), TOO_MANY),
        Case("bomb TIFF", huge_tiff, TOO_MANY),
    ),
)
COSTLY = Group(
    "a small file of 49 megapixels: lossless WebP, AVIF, 16-bit PNG, TIFF of floats",
    "captioned, within the memory that decoding may take",
    (
        Case(
            "49 megapixels TIFF of floats",
            partial(float_tiff, 7_000),
            Captioned(size=(7_000, 7_000)),
            is_heavy=True,
        ),
        Case(
            "49 megapixels PNG of 16 bits",
            partial(flat_png, 7_000, 7_000, 16, 2),
            Captioned(size=(7_000, 7_000)),
            is_heavy=True,
        ),
        Case(
            "49 megapixels WebP",
            lambda: encoded(Image.new("RGB", (7_000, 7_000)), "WEBP", lossless=True, quality=0),
            Captioned(size=(7_000, 7_000)),
            is_heavy=True,
        ),
        Case(
            "49 megapixels AVIF",
            lambda: encoded(Image.new("L", (7_000, 7_000)), "AVIF", speed=10),
            Captioned(size=(7_000, 7_000)),
            is_heavy=True,
        ),
    ),
)
LENGTHS = Group(
    "a length, count or size that the rest of the file contradicts",
    "refused",
    (
        Case("AVIF of 60,000 x 60,000 pixels", huge_avif, DAMAGED),
        Case("PNG text of 4 GB", partial(png_of_length, b"tEXt", 0xFFFFFFFF), DAMAGED),
        Case("WebP of 4 GB", partial(riff_of_length, 0xFFFFFFF0), DAMAGED),
        Case("AVIF box of 4 GB", partial(box_of_length, 0xFFFFFFFF), DAMAGED),
        Case("AVIF box of 0 bytes", partial(box_of_length, 8), DAMAGED),
        Case("TIFF pixels elsewhere", lambda: gray_tiff()[:300], DAMAGED),
        Case("TIFF directory outside", lambda: b"II*\0\xff\xff\xff\x7f" + bytes(40), DAMAGED),
    ),
)
DEEP = Group(
    "metadata that unpacks to a hundred megabytes; directories that lead to themselves",
    "captioned: none of it is unpacked or followed",
    (
        Case("PNG zTXt of 100 MB", partial(deep_text, b"zTXt", 100, 1), SEEN),
        Case("PNG iTXt of 100 MB", partial(deep_text, b"iTXt", 100, 1), SEEN),
        Case("PNG iTXt 60 times 2 MB", partial(deep_text, b"iTXt", 2, 60), SEEN),
        Case(
            "PNG iCCP of 100 MB",
            lambda: png.with_chunk(b"iCCP", b"a\0\0" + packed_zeros(100)),
            SEEN,
        ),
        Case("TIFF directory loop", lambda: gray_tiff(next_directory=8), Captioned()),
        Case("TIFF sub-directory loop", lambda: gray_tiff((330, 4, 1, 8)), Captioned()),
        Case("TIFF EXIF loop", lambda: gray_tiff((34665, 4, 1, 8)), Captioned()),
    ),
)
STRUCTURE = Group(
    "a structure that costs far more than its pixels: hundreds of scans, strips, tags, segments",
    "refused before a decoder sees it: save the picture again",
    (
        Case("JPEG of 300 scans", partial(progressive_scans, b""), TOO_MANY),
        Case(
            "JPEG of 300 scans behind a comment",
            partial(progressive_scans, b"\xff\xfe\0\6\xff\xd9ab"),
            TOO_MANY,
        ),
        Case(
            "TIFF of 3.1 million strips",
            lambda: gray_tiff()[:8] + gray_tiff((324, 4, 3_100_000, 8))[8:],
            TOO_MANY,
        ),
        Case(
            "TIFF of 1,200 tags",
            lambda: gray_tiff(*[(40_000 + number, 3, 1, 0) for number in range(1_200)]),
            TOO_MANY,
        ),
    ),
)
ARCHIVE = Group(
    "an archive under the name of a picture",
    "refused by its first bytes; never unpacked",
    (Case("ZIP of 100 MB", zip_bomb, Refused("unreadable-image")),),
)
GROUPS = (PIXELS, COSTLY, LENGTHS, DEEP, STRUCTURE, ARCHIVE)
