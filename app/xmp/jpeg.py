"""XMP in a JPEG: a segment APP1 of its own, before the first scan; every other byte stays.

Where the file holds several pictures (CIPA DC-007: MPO, previews, depth maps), an index in APP2
says how long the first is and how far away the others are: those numbers follow.
"""

import struct
from dataclasses import dataclass

from app.xmp.packet import XmpError

__all__ = ["read_jpeg_xmp", "write_jpeg_xmp"]

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_INDEX = b"MPF\0"
_APP0, _APP1, _APP2, _SOS = 0xE0, 0xE1, 0xE2, 0xDA
_ENTRIES_TAG = 0xB002
_ENTRY_BYTES = 16
_MOST_BYTES = 65_533 - len(_XMP)
_DAMAGED = "The JPEG's segments are damaged, so its metadata is not touched."


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment before the first scan: from its 0xFF to its end; `body` is its content."""

    marker: int
    start: int
    body: int
    stop: int


def read_jpeg_xmp(data: bytes) -> bytes | None:
    """Find the XMP packet of a JPEG; None where it has none. Raises XmpError."""
    found = _find(data, _segments(data))
    return None if found is None else data[found.body + len(_XMP) : found.stop]


def write_jpeg_xmp(data: bytes, packet: bytes) -> bytes:
    """Put a packet into a JPEG, in the place of its old one. Raises XmpError."""
    if len(packet) > _MOST_BYTES:
        raise XmpError(
            f"With the caption, the photo's XMP metadata would have {len(packet)} bytes; a JPEG "
            f"holds {_MOST_BYTES}."
        )
    segments = _segments(data)
    made = b"\xff\xe1" + struct.pack(">H", 2 + len(_XMP) + len(packet)) + _XMP + packet
    old = _find(data, segments)
    if old is None:
        start = stop = _place(data, segments)
    else:
        start, stop = old.start, old.stop
    growth = len(made) - (stop - start)
    index = next((each for each in segments if _is_index(data, each)), None)
    changed = data
    if index is not None:
        changed = _move_index(data, index, growth, is_behind=start >= index.stop)
    return changed[:start] + made + changed[stop:]


def _segments(data: bytes) -> list[_Segment]:
    found: list[_Segment] = []
    position = 2
    while True:
        start = position
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        marker = data[position + 1 : position + 2]
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        stop = position + 2 + length
        if (
            data[position : position + 1] != b"\xff"
            or marker == b"\0"
            or length < 2
            or stop > len(data)
        ):
            raise XmpError(_DAMAGED)
        if marker[0] == _SOS:
            return found
        found.append(_Segment(marker[0], start, position + 4, stop))
        position = stop


def _find(data: bytes, segments: list[_Segment]) -> _Segment | None:
    for each in segments:
        if each.marker == _APP1 and data.startswith(_XMP, each.body):
            return each
    return None


def _place(data: bytes, segments: list[_Segment]) -> int:
    """Behind JFIF and EXIF, which must come first."""
    place = 2
    for each in segments:
        if each.start != place or not _comes_first(data, each):
            return place
        place = each.stop
    return place


def _comes_first(data: bytes, segment: _Segment) -> bool:
    is_exif = segment.marker == _APP1 and data.startswith(b"Exif\0", segment.body)
    return segment.marker == _APP0 or is_exif


def _is_index(data: bytes, segment: _Segment) -> bool:
    return segment.marker == _APP2 and data.startswith(_INDEX, segment.body)


def _move_index(data: bytes, index: _Segment, growth: int, *, is_behind: bool) -> bytes:
    """Correct an index of pictures for a first one that grows; by its own sizes, in place.

    is_behind: whether what grows lies behind the index, from which distances are counted.
    """
    base = index.body + len(_INDEX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[base : base + 4])
    try:
        if order is None:
            raise XmpError(_DAMAGED)
        start, count = _entries(data, base, order)
        if start + count > index.stop:
            raise XmpError(_DAMAGED)
        changed = bytearray(data)
        for entry in range(start, start + count, _ENTRY_BYTES):
            size, distance = struct.unpack_from(f"{order}II", data, entry + 4)
            size += growth if entry == start else 0
            distance += growth if is_behind and distance else 0
            struct.pack_into(f"{order}II", changed, entry + 4, size, distance)
    except struct.error as error:
        raise XmpError(_DAMAGED) from error
    return bytes(changed)


def _entries(data: bytes, base: int, order: str) -> tuple[int, int]:
    """Find where the entries of an index begin, and how many bytes they have."""
    (first,) = struct.unpack_from(f"{order}I", data, base + 4)
    (fields,) = struct.unpack_from(f"{order}H", data, base + first)
    for number in range(fields):
        place = base + first + 2 + 12 * number
        tag, _, count, value = struct.unpack_from(f"{order}HHII", data, place)
        if tag == _ENTRIES_TAG:
            return base + value, count
    raise XmpError(_DAMAGED)
