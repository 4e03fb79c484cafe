"""What a TIFF's first directory may cost: its tags, strips and tiles."""

import struct

from models.errors import ImageTooLargeError, TruncatedImageError

__all__ = ["check_tiff"]

# A strip or tile costs an entry of a list and a call of the decoder; a tag costs a parser.
_MAX_TIFF_PARTS = 20_000
_MAX_TIFF_TAGS = 1_000
_PART_OFFSETS = (273, 324)  # StripOffsets, TileOffsets
_SAMPLES_PER_PIXEL = 277
_MAX_SAMPLES = 6  # those of CMYK and two more; Pillow reads no more, and logs an error for them
_NUMBERS = {1: "B", 3: "H", 4: "L"}  # the types that such a number is written in


def check_tiff(data: bytes) -> None:
    """Read the first directory: its tags, and how many strips or tiles they announce.

    Other directories are never read. Raises ImageTooLargeError, and TruncatedImageError where a
    pixel has more samples than a decoder reads. A file that cannot be followed is left to its
    decoder.
    """
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
            at = first + number * size
            tag, kind, count = struct.unpack_from(head, data, at)
            if tag == _SAMPLES_PER_PIXEL:
                form = f"{order}{_NUMBERS[kind]}" if kind in _NUMBERS and count == 1 else None
                _check_samples(data, at + struct.calcsize(head), form)
            if tag in _PART_OFFSETS and count > _MAX_TIFF_PARTS:
                raise ImageTooLargeError(
                    f"The TIFF is stored in {count:,} strips or tiles; at most "
                    f"{_MAX_TIFF_PARTS:,} are accepted. Save it again as TIFF or PNG."
                )
    except (struct.error, OverflowError):
        return  # the directory lies outside the file: the decoder says so


def _check_samples(data: bytes, position: int, form: str | None) -> None:
    if form is None or struct.unpack_from(form, data, position)[0] > _MAX_SAMPLES:
        raise TruncatedImageError(
            "The TIFF file is damaged or of a rare kind: each pixel must have 1 to "
            f"{_MAX_SAMPLES} samples. Save it again as JPEG or PNG."
        )
