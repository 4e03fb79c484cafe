"""XMP in a PNG: a chunk iTXt with the keyword `XML:com.adobe.xmp`; every other byte stays."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from app.xmp.packet import XmpError

__all__ = ["read_png_xmp", "write_png_xmp"]

_KEYWORD = b"XML:com.adobe.xmp\0"
_SIGNATURE_BYTES = 8
_MAX_CHUNKS = 20_000
_MAX_PACKET_BYTES = 4_000_000
_DAMAGED = "The PNG's chunks are damaged, so its metadata is not touched."


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    stop: int


def read_png_xmp(data: bytes) -> bytes | None:
    """Find the XMP packet of a PNG; None where it has none. Raises XmpError."""
    found = next((each for each in _chunks(data) if _is_xmp(data, each)), None)
    if found is None:
        return None
    body = data[found.start + 8 + len(_KEYWORD) : found.stop - 4]
    is_compressed = body[:1] == b"\1"
    parts = body[2:].split(b"\0", 2)  # language, translated keyword, text
    if len(parts) != 3:
        raise XmpError(_DAMAGED)
    return _unpack(parts[2]) if is_compressed else parts[2]


def write_png_xmp(data: bytes, packet: bytes) -> bytes:
    """Put a packet into a PNG, in the place of its old one. Raises XmpError."""
    body = b"iTXt" + _KEYWORD + b"\0\0\0\0" + packet
    made = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    chunks = list(_chunks(data))
    old = next((each for each in chunks if _is_xmp(data, each)), None)
    if old is not None:
        return data[: old.start] + made + data[old.stop :]
    first = next((each for each in chunks if each.kind == b"IDAT"), None)
    if first is None:
        raise XmpError(_DAMAGED)
    return data[: first.start] + made + data[first.start :]


def _chunks(data: bytes) -> Iterator[_Chunk]:
    position = _SIGNATURE_BYTES
    for _ in range(_MAX_CHUNKS):
        stop = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if len(kind) < 4 or stop > len(data):
            raise XmpError(_DAMAGED)
        yield _Chunk(kind, position, stop)
        if kind == b"IEND":
            return
        position = stop
    raise XmpError(_DAMAGED)


def _is_xmp(data: bytes, chunk: _Chunk) -> bool:
    return chunk.kind == b"iTXt" and data.startswith(_KEYWORD, chunk.start + 8)


def _unpack(text: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        packet = unpacker.decompress(text, _MAX_PACKET_BYTES)
    except zlib.error as error:
        raise XmpError(_DAMAGED) from error
    if not unpacker.eof:
        raise XmpError(f"The photo's XMP metadata is larger than {_MAX_PACKET_BYTES} bytes.")
    return packet
