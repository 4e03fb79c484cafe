"""A PNG's chunks: those that show the image are handed on, the others are skipped unread.

What is skipped costs nothing and can break nothing: color profiles, texts of any size, the frames
of an animation behind the first. The check sum of IHDR and PLTE must be right, as the decoder
holds; a tRNS or eXIf chunk of a wrong one is skipped; that of the compressed data is not looked at.
"""

import zlib
from dataclasses import dataclass, field

from models.errors import ImageTooLargeError
from models.image_files.exif import UPRIGHT, exif_orientation
from models.image_files.pieces import Span

__all__ = ["PngFile", "read_png"]

_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_MAX_CHUNKS = 20_000
_MAX_TRNS_BYTES = 256
_MAX_EXIF_BYTES = 65_536


@dataclass(slots=True)
class PngFile:
    """The parts of a PNG file that its decoder needs, and its orientation, 1 to 8."""

    spans: list[Span] = field(default_factory=list)
    orientation: int = UPRIGHT


def read_png(data: bytes) -> PngFile:
    """Find the chunks that show the image. Raises ImageTooLargeError where there are too many.

    A file that ends early is handed on up to its end, and its decoder says so: unless it ends in a
    chunk that is skipped, as an animation does that is cut behind its first image.
    """
    file = PngFile()
    begin = 0  # of the part that is handed on, up to `position`
    position = 8
    for _ in range(_MAX_CHUNKS):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        stop = position + 12 + length
        if stop > len(data) or kind == b"IEND":
            end = min(stop, len(data)) if kind in _NEEDED else position
            file.spans.append((begin, end))
            return file
        if kind == b"eXIf" and length <= _MAX_EXIF_BYTES and _is_sound(data, position, stop):
            file.orientation = exif_orientation(data[position + 8 : stop - 4])
        is_transparency = kind == b"tRNS" and length <= _MAX_TRNS_BYTES
        if kind not in _NEEDED and not (is_transparency and _is_sound(data, position, stop)):
            file.spans.append((begin, position))
            begin = stop
        position = stop
    raise ImageTooLargeError(f"The PNG has more than {_MAX_CHUNKS:,} chunks. Save it again as PNG.")


def _is_sound(data: bytes, start: int, stop: int) -> bool:
    """Whether a chunk's check sum is right."""
    return zlib.crc32(data[start + 4 : stop - 4]).to_bytes(4, "big") == data[stop - 4 : stop]
