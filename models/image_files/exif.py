"""The one thing that is read of an EXIF block: which way up the image is."""

import struct

__all__ = ["UPRIGHT", "exif_orientation"]

UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_SHORT = 3
_MAX_TAGS = 1_000


def exif_orientation(exif: bytes | memoryview) -> int:
    """Read the orientation, 1 to 8: 1 (upright) where there is none or the block is damaged.

    exif: a TIFF header and its directory, behind "Exif" and two zeros or not.
    """
    block = memoryview(exif)
    if bytes(block[:6]) == b"Exif\0\0":
        block = block[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(f"{order}L", block, 4)
        (tags,) = struct.unpack_from(f"{order}H", block, start)
        for number in range(min(tags, _MAX_TAGS)):
            at = start + 2 + number * 12
            tag, kind, count, value = struct.unpack_from(f"{order}HHLH", block, at)
            if tag == _ORIENTATION_TAG:
                is_one_number = kind == _SHORT and count == 1
                return value if is_one_number and 1 <= value <= 8 else UPRIGHT
    except struct.error:
        return UPRIGHT  # the directory lies outside the block
    return UPRIGHT
