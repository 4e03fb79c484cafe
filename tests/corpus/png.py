"""PNG in every color type and bit depth, interlaced, animated, with odd chunks and wrong sums."""

import struct
import zlib
from functools import partial

import numpy as np

from tests.corpus.case import COLORS, HEIGHT, WIDTH, Captioned, Case, Group, Refused, quadrants
from tests.unit.image_files import encoded, png_chunk, textured

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SEEN = Captioned(colors=COLORS, tolerance=2)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
SIDES = Captioned(colors=(BLACK, WHITE, BLACK, WHITE), tolerance=1)
DAMAGED = Refused("damaged-image")
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
ADAM7_LAST = (0, 1, 1, 2)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG, as (type, body)."""
    found = []
    position = len(SIGNATURE)
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        start = position + 8
        found.append((data[position + 4 : start], data[start : start + length]))
        position = start + length + 4
    return found


def joined(*parts: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks, with right sums."""
    return SIGNATURE + b"".join(png_chunk(kind, body) for kind, body in parts)


def header(width: int, height: int, depth: int, color: int, interlace: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)


def gray(depth: int) -> bytes:
    """The left half black, the right half white, at this many bits a sample."""
    half = WIDTH // 2
    bits = "0" * (half * depth) + "1" * (half * depth)
    row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return joined(
        (b"IHDR", header(WIDTH, HEIGHT, depth, 0)),
        (b"IDAT", zlib.compress(row * HEIGHT)),
        (b"IEND", b""),
    )


def palette(depth: int) -> bytes:
    """The picture with a palette of four colors, at this many bits a sample."""
    color_of = np.zeros((HEIGHT, WIDTH), dtype=int)
    color_of[:, WIDTH // 2 :] += 1
    color_of[HEIGHT // 2 :] += 2
    if depth == 1:
        color_of //= 2  # two colors: the upper and the lower half
    rows = b""
    for row in color_of:
        bits = "".join(f"{index:0{depth}b}" for index in row)
        rows += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    colors = COLORS[::2] if depth == 1 else COLORS
    return joined(
        (b"IHDR", header(WIDTH, HEIGHT, depth, 3)),
        (b"PLTE", b"".join(bytes(color) for color in colors)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )


def of_16_bits(color: int) -> bytes:
    """The picture with two bytes a sample: RGB (2) or RGBA (6)."""
    pixels = np.asarray(quadrants()).astype(">u2") * 257
    if color == 6:
        pixels = np.concatenate([pixels, np.full((HEIGHT, WIDTH, 1), 65535)], axis=2).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return joined(
        (b"IHDR", header(WIDTH, HEIGHT, 16, color)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )


def interlaced() -> bytes:
    """The picture in Adam7's seven passes."""
    pixels = np.asarray(quadrants())
    rows = b""
    for x, y, step_x, step_y in (*ADAM7, ADAM7_LAST):
        for row in pixels[y::step_y, x::step_x]:
            rows += b"\0" + row.tobytes()
    return joined(
        (b"IHDR", header(WIDTH, HEIGHT, 8, 2, interlace=1)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )


def half_transparent() -> bytes:
    """The upper half is there, the lower half is transparent."""
    image = quadrants().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, HEIGHT // 2, WIDTH, HEIGHT))
    return encoded(image, "PNG")


def palette_with_transparency() -> bytes:
    """A palette whose third and fourth color are transparent."""
    parts = chunks(palette(2))
    return joined(*parts[:2], (b"tRNS", b"\xff\xff\0\0"), *parts[2:])


def color_key() -> bytes:
    """RGB in which the picture's blue counts as transparent."""
    return encoded(quadrants(), "PNG", transparency=COLORS[2])


def animated() -> bytes:
    return encoded(quadrants(), "PNG", save_all=True, append_images=[textured()])


def with_chunk(kind: bytes, body: bytes, times: int = 1) -> bytes:
    """The picture with chunks between its header and its pixels."""
    parts = chunks(encoded(quadrants(), "PNG"))
    return joined(parts[0], *[(kind, body)] * times, *parts[1:])


def with_wrong_sum(kind: bytes) -> bytes:
    """The picture, with the checksum of its first chunk of that type off by one bit."""
    data = bytearray(with_chunk(b"tEXt", b"Title\0a picture"))
    at = data.index(kind)
    (length,) = struct.unpack_from(">I", data, at - 4)
    data[at + 4 + length] ^= 1
    return bytes(data)


def split_pixels() -> bytes:
    """Each byte of the compressed pixels in an IDAT of its own."""
    parts = chunks(encoded(quadrants(), "PNG"))
    pixels = b"".join(body for kind, body in parts if kind == b"IDAT")
    each = [(b"IDAT", pixels[n : n + 1]) for n in range(len(pixels))]
    return joined(parts[0], *each, (b"IEND", b""))


GRAYS = Group(
    "PNG or TIFF of 16 bits a sample; PNG of 1, 2 or 4 bits",
    "scaled to 8 bits: 0 is black, the largest value of the depth is white",
    (
        *(Case(f"PNG gray {depth} bit", partial(gray, depth), SIDES) for depth in (1, 2, 4, 8, 16)),
        Case("PNG RGB 16 bit", partial(of_16_bits, 2), SEEN),
        Case("PNG RGBA 16 bit", partial(of_16_bits, 6), SEEN),
    ),
)
PALETTES = Group(
    "PNG with a palette, interlaced, in one or in a thousand pieces",
    "captioned",
    (
        *(Case(f"PNG palette {depth} bit", partial(palette, depth), SEEN) for depth in (2, 4, 8)),
        Case(
            "PNG palette 1 bit",
            partial(palette, 1),
            Captioned(colors=(COLORS[0], COLORS[0], COLORS[2], COLORS[2])),
        ),
        Case("PNG interlaced", interlaced, SEEN),
        Case("PNG in pieces", split_pixels, SEEN),
    ),
)
TRANSPARENT = Group(
    "transparency: an alpha channel, a transparent color of a palette, a color key",
    "laid on white",
    (
        Case("PNG alpha", half_transparent, Captioned(colors=(COLORS[0], COLORS[1], WHITE, WHITE))),
        Case(
            "PNG palette transparency",
            palette_with_transparency,
            Captioned(colors=(COLORS[0], COLORS[1], WHITE, WHITE)),
        ),
        Case(
            "PNG color key",
            color_key,
            Captioned(colors=(COLORS[0], COLORS[1], WHITE, COLORS[3])),
        ),
    ),
)
EXTRAS = Group(
    "PNG with text, color profiles or unknown chunks, small or large",
    "captioned; they are skipped",
    (
        Case("PNG text", partial(with_chunk, b"tEXt", b"Comment\0hello"), SEEN),
        Case(
            "PNG compressed text of 2 MB",
            partial(with_chunk, b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000))),
            SEEN,
        ),
        Case(
            "PNG color profile of 2 MB",
            partial(with_chunk, b"iCCP", b"profile\0\0" + zlib.compress(bytes(2_000_000))),
            SEEN,
        ),
        Case("PNG color profile of noise", partial(with_chunk, b"iCCP", b"a\0\0noise"), SEEN),
        Case("PNG unknown chunk", partial(with_chunk, b"gliM", b"anything"), SEEN),
        Case("PNG 1,000 unknown chunks", partial(with_chunk, b"gliM", b"a", 1_000), SEEN),
        Case("PNG odd gamma", partial(with_chunk, b"gAMA", b"\0\0\0\0"), SEEN),
        Case("PNG EXIF of noise", partial(with_chunk, b"eXIf", b"noise" * 9), SEEN),
    ),
)
SUMS = Group(
    "PNG with a wrong checksum where only metadata is concerned",
    "captioned",
    (Case("PNG wrong sum of text", partial(with_wrong_sum, b"tEXt"), SEEN),),
)
WRONG_HEADER = Group(
    "PNG with a wrong checksum of its header",
    "refused: its size cannot be trusted",
    (Case("PNG wrong sum of header", partial(with_wrong_sum, b"IHDR"), DAMAGED),),
)
WRONG_PIXELS = Group(
    "PNG with a wrong checksum of its pixels that unpack whole",
    "captioned: the pixels have a sum of their own inside, and that one is right",
    (Case("PNG wrong sum of pixels", partial(with_wrong_sum, b"IDAT"), SEEN),),
)
GROUPS = (GRAYS, PALETTES, TRANSPARENT, EXTRAS, SUMS, WRONG_PIXELS, WRONG_HEADER)
