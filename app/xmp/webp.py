"""XMP in a WebP: a chunk `XMP ` at the end, told of in the chunk VP8X; every other byte stays.

A file of the simple form, which is one chunk of pixels, becomes one of the extended form.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from app.xmp.packet import XmpError

__all__ = ["read_webp_xmp", "write_webp_xmp"]

_HEAD_BYTES = 12
_XMP_FLAG = 0x04
_ALPHA_FLAG = 0x10
_MAX_CHUNKS = 10_000
_DAMAGED = "The WebP's chunks are damaged, so its metadata is not touched."


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    body: int
    end: int  # of the content
    stop: int  # of the chunk, which has an even length


def read_webp_xmp(data: bytes) -> bytes | None:
    """Find the XMP packet of a WebP; None where it has none. Raises XmpError."""
    found = next((each for each in _chunks(data) if each.kind == b"XMP "), None)
    return None if found is None else data[found.body : found.end]


def write_webp_xmp(data: bytes, packet: bytes) -> bytes:
    """Put a packet into a WebP, instead of its old one. Raises XmpError.

    What stands behind the end that the file states stays there.
    """
    chunks = list(_chunks(data))
    if not chunks:
        raise XmpError(_DAMAGED)
    made = b"XMP " + struct.pack("<I", len(packet)) + packet + bytes(len(packet) % 2)
    kept = [data[each.start : each.stop] for each in chunks if each.kind != b"XMP "]
    head = _extended_head(data, chunks[0])
    others = kept[1:] if chunks[0].kind == b"VP8X" else kept
    body = b"WEBP" + head + b"".join(others) + made
    if len(body) > 0xFFFF_FFFE:
        raise XmpError("With the caption, the file would be larger than a WebP can be.")
    return b"RIFF" + struct.pack("<I", len(body)) + body + data[chunks[-1].stop :]


def _chunks(data: bytes) -> Iterator[_Chunk]:
    position = _HEAD_BYTES
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise XmpError(_DAMAGED)
    for _ in range(_MAX_CHUNKS):
        if position >= end:
            return
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        body = position + 8
        stop = body + length + length % 2
        if body + length > end:
            raise XmpError(_DAMAGED)
        yield _Chunk(data[position : position + 4], position, body, body + length, min(stop, end))
        position = stop
    raise XmpError(_DAMAGED)


def _extended_head(data: bytes, first: _Chunk) -> bytes:
    """Give the chunk VP8X, with its mark that there is XMP."""
    if first.kind == b"VP8X" and first.end - first.body >= 10:
        flags = data[first.body] | _XMP_FLAG
        return data[first.start : first.body] + bytes([flags]) + data[first.body + 1 : first.stop]
    width, height, has_alpha = _simple_size(data, first)
    flags = _XMP_FLAG | (_ALPHA_FLAG if has_alpha else 0)
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + sides


def _simple_size(data: bytes, first: _Chunk) -> tuple[int, int, bool]:
    """Read width, height and whether there is transparency from a chunk of pixels."""
    body = data[first.body : first.body + 10]
    if first.kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a" and len(body) == 10:
        width, height = struct.unpack("<HH", body[6:10])
        if width & 0x3FFF and height & 0x3FFF:
            return width & 0x3FFF, height & 0x3FFF, False
    if first.kind == b"VP8L" and body[:1] == b"\x2f" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    raise XmpError(_DAMAGED)
