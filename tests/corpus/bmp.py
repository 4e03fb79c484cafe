"""BMP of every depth, compressed and upside down, written by hand: Pillow writes few of them."""

import struct
from collections.abc import Callable
from functools import partial

import numpy as np

from tests.corpus.case import COLORS, HEIGHT, WIDTH, Captioned, Case, Group, Refused, quadrants

SEEN = Captioned(colors=COLORS, tolerance=8)
QUARTERS = [[0, 1], [2, 3]]  # the color of each quarter, by its place in COLORS


def bitmap(
    pixels: bytes,
    depth: int,
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    compression: int = 0,
    palette: bytes = b"",
) -> bytes:
    """A BMP with the header of 40 bytes."""
    start = 14 + 40 + len(palette)
    head = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    info = struct.pack(
        "<IiiHHIIiiII", 40, *size, 1, depth, compression, len(pixels), 0, 0, len(palette) // 4, 0
    )
    return head + info + palette + pixels


def indices() -> np.ndarray:
    """The color of each pixel, (H, W), from the top."""
    quarters = np.array(QUARTERS)
    return np.repeat(np.repeat(quarters, HEIGHT // 2, axis=0), WIDTH // 2, axis=1)


PALETTE = b"".join(bytes((blue, green, red, 0)) for red, green, blue in COLORS)


def with_palette(depth: int) -> bytes:
    """1, 4 or 8 bits a pixel, from the bottom up."""
    color_of = indices() // 2 if depth == 1 else indices()
    rows = b""
    for row in color_of[::-1]:
        bits = "".join(f"{index:0{depth}b}" for index in row)
        rows += int(bits, 2).to_bytes(len(bits) // 8, "big")
    palette = PALETTE[:4] + PALETTE[8:12] if depth == 1 else PALETTE
    return bitmap(rows, depth, palette=palette)


def of_16_bits() -> bytes:
    """Five bits a color."""
    red, green, blue = np.moveaxis(np.asarray(quadrants()).astype("<u2") >> 3, 2, 0)
    return bitmap((red << 10 | green << 5 | blue)[::-1].astype("<u2").tobytes(), 16)


def of_24_bits(*, is_top_down: bool = False) -> bytes:
    rows = np.asarray(quadrants())[:, :, ::-1]
    if is_top_down:
        return bitmap(rows.tobytes(), 24, size=(WIDTH, -HEIGHT))
    return bitmap(rows[::-1].tobytes(), 24)


def of_32_bits() -> bytes:
    """The fourth byte is padding, not alpha."""
    rows = np.asarray(quadrants())[::-1, :, ::-1]
    padding = np.zeros((HEIGHT, WIDTH, 1), dtype=np.uint8)
    return bitmap(np.concatenate([rows, padding], axis=2).tobytes(), 32)


def run_length(depth: int) -> bytes:
    """Runs of one color: 8 bits (compression 1) or 4 (compression 2)."""
    half = WIDTH // 2
    rows = b""
    for row in indices()[::-1]:
        for index in (int(row[0]), int(row[-1])):
            rows += bytes((half, index if depth == 8 else index << 4 | index))
        rows += b"\0\0"
    return bitmap(rows + b"\0\1", depth, compression={8: 1, 4: 2}[depth], palette=PALETTE)


def of_os2() -> bytes:
    """The header of 12 bytes, with colors of three bytes."""
    rows = np.asarray(quadrants())[::-1, :, ::-1].tobytes()
    head = b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26)
    return head + struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24) + rows


KINDS: dict[str, Callable[[], bytes]] = {
    "4 bit": partial(with_palette, 4),
    "8 bit": partial(with_palette, 8),
    "16 bit": of_16_bits,
    "24 bit": of_24_bits,
    "24 bit from the top": partial(of_24_bits, is_top_down=True),
    "32 bit": of_32_bits,
    "run length 8 bit": partial(run_length, 8),
    "run length 4 bit": partial(run_length, 4),
    "OS/2": of_os2,
}
TWO_COLORS = Captioned(colors=(COLORS[0], COLORS[0], COLORS[2], COLORS[2]))
GROUPS = (
    Group(
        "BMP of 1 to 32 bits, run-length coded, upside down, of OS/2",
        "captioned",
        (
            *(Case(f"BMP {name}", build, SEEN) for name, build in KINDS.items()),
            Case("BMP 1 bit", partial(with_palette, 1), TWO_COLORS),
        ),
    ),
    Group(
        "BMP with a negative width, or of no pixels",
        "refused",
        (
            Case(
                "BMP negative width",
                lambda: bitmap(bytes(60_000), 24, size=(-200, 200)),
                Refused("damaged-image"),
            ),
            Case(
                "BMP of no width",
                lambda: bitmap(bytes(60_000), 24, size=(0, 200)),
                Refused("damaged-image"),
            ),
        ),
    ),
)
