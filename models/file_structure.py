"""What a file's structure may cost, read from its bytes before a decoder sees it. Knows no pixels.

A decoder's work is not bounded by a file's size and pixels alone: each scan of a progressive JPEG
is a pass over the whole image, each strip of a TIFF an entry of a list. Both can be written in a
few bytes. Nothing here decodes: a check is one walk through the bytes, a third of a second for the
worst 20 MB.
"""

import re
import struct

from models.errors import ImageTooLargeError

__all__ = ["check_structure"]

# Each scan of a progressive JPEG costs a pass over the whole image (35 ms at 49 megapixels) and can
# be written in a hundred bytes. Real encoders write about ten.
_MAX_JPEG_SCANS = 50
# Pillow reads the segments before the first scan one by one, and what lies between them byte by
# byte, in Python. Real files have dozens of segments, and nothing between them.
_MAX_JPEG_SEGMENTS = 4_000
_MAX_JPEG_GAP_BYTES = 65_536
_FILL = b"\xff" * (_MAX_JPEG_GAP_BYTES + 1)
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
# In compressed data 0xFF is escaped by 0x00, restart markers belong to the data, and a marker may
# have any number of 0xFF before it.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SAVE_JPEG_AGAIN = "Save it again as JPEG."

# A strip or tile costs an entry of a list and a call of the decoder; a tag costs a parser.
_MAX_TIFF_PARTS = 20_000
_MAX_TIFF_TAGS = 1_000
_PART_OFFSETS = (273, 324)  # StripOffsets, TileOffsets


def check_structure(data: bytes, format_name: str) -> None:
    """Refuse a file whose structure would cost far more than its pixels.

    Only what the decoder would read counts: a second image behind the first, as motion photos and
    MPO files have, does not. A file that cannot be followed is left to its decoder. Raises
    ImageTooLargeError.
    """
    if format_name == "JPEG":
        _check_jpeg(data)
    elif format_name == "TIFF":
        _check_tiff(data)


def _check_jpeg(data: bytes) -> None:
    """Walk the segments by their lengths, from SOI to the first EOI, and count."""
    position = 2  # behind SOI
    segments = 0
    scans = 0
    while (found := _MARKER.search(data, position)) is not None:
        marker = data[found.start() + 1]
        segments += 1
        if scans == 0:
            gap = found.start() - position
            _refuse_above(_MAX_JPEG_GAP_BYTES, gap, "bytes between two segments")
        elif data.find(_FILL, position, found.end()) >= 0:  # compressed data lies here
            _refuse_above(_MAX_JPEG_GAP_BYTES, len(_FILL), "fill bytes in a row")
        if marker == _EOI:
            return
        _refuse_above(_MAX_JPEG_SEGMENTS, segments, "segments")
        if marker == _SOS:
            scans += 1
            _refuse_above(_MAX_JPEG_SCANS, scans, "scans")
        position = found.end()
        if marker not in (_SOI, _TEM):  # these have no length
            position += int.from_bytes(data[position : position + 2], "big")


def _refuse_above(most: int, count: int, what: str) -> None:
    if count > most:
        raise ImageTooLargeError(f"The JPEG has more than {most:,} {what}. {_SAVE_JPEG_AGAIN}")


def _check_tiff(data: bytes) -> None:
    """Read the first directory: its tags, and how many strips or tiles they announce."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    try:
        if is_big:
            (start,) = struct.unpack_from(f"{order}Q", data, 8)
            (tags,) = struct.unpack_from(f"{order}Q", data, start)
            first, size, head = start + 8, 20, f"{order}HHQ"
        else:
            (start,) = struct.unpack_from(f"{order}L", data, 4)
            (tags,) = struct.unpack_from(f"{order}H", data, start)
            first, size, head = start + 2, 12, f"{order}HHL"
        if tags > _MAX_TIFF_TAGS:
            raise ImageTooLargeError(
                f"The TIFF has {tags:,} tags; at most {_MAX_TIFF_TAGS:,} are accepted. "
                "Save it again as TIFF or PNG."
            )
        for number in range(tags):
            tag, _, count = struct.unpack_from(head, data, first + number * size)
            if tag in _PART_OFFSETS and count > _MAX_TIFF_PARTS:
                raise ImageTooLargeError(
                    f"The TIFF is stored in {count:,} strips or tiles; at most "
                    f"{_MAX_TIFF_PARTS:,} are accepted. Save it again as TIFF or PNG."
                )
    except (struct.error, OverflowError):
        return  # the directory lies outside the file: the decoder says so
