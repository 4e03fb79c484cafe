"""A WebP's chunks: its size, whether it is transparent, and its EXIF block."""

from dataclasses import dataclass

from models.errors import ImageTooLargeError
from models.image_files.exif import UPRIGHT, exif_orientation

__all__ = ["WebpFile", "read_webp"]

# An animation has one a frame.
_MAX_CHUNKS = 10_000
_MAX_EXIF_BYTES = 65_536


@dataclass(slots=True)
class WebpFile:
    """The size in pixels, and the orientation, 1 to 8. A size of 0 could not be read."""

    width: int = 0
    height: int = 0
    orientation: int = UPRIGHT


def read_webp(data: bytes) -> WebpFile:
    """Read the size from the first chunk, and the orientation from the one of EXIF.

    What stands behind the end that the file states is not looked at. Raises ImageTooLargeError
    where there are very many chunks.
    """
    file = WebpFile()
    file.width, file.height = _size(data)
    position = 12
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    for _ in range(_MAX_CHUNKS):
        if position + 8 > end:
            return file
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] == b"EXIF" and length <= _MAX_EXIF_BYTES:
            file.orientation = exif_orientation(data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    raise ImageTooLargeError(
        f"The WebP has more than {_MAX_CHUNKS:,} chunks. Save it again as WebP or PNG."
    )


def _size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and len(data) >= 30:
        width, height = int.from_bytes(data[26:28], "little"), int.from_bytes(data[28:30], "little")
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[20:21] == b"\x2f" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 0, 0
