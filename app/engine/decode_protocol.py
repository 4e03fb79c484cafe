"""What the service and a decoder process say to each other. Knows no process and no event loop.

    service                               decoder process
                                    <──   Hello
    Job, and the file's bytes       ──>   reads and checks the header; decodes what takes little
                                    <──   Decoded, and the pixels, or Opened, or Failed
    Grant, or Drop                  ──>   decodes what was opened
                                    <──   Decoded, and the pixels, or Failed

A frame is a head of 12 bytes (the length of a JSON object, then of the bytes behind it), the
object, and the bytes. Never pickle: what comes out of a process that has read a hostile file is
data, and is checked as such.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeAlias

from models import errors
from models.preprocessing import DecodeLimits

__all__ = [
    "HEAD_BYTES",
    "Decoded",
    "Drop",
    "Failed",
    "FrameError",
    "Grant",
    "Hello",
    "Job",
    "Message",
    "Opened",
    "encode_frame",
    "parse_head",
    "parse_message",
]

_HEAD = struct.Struct(">IQ")
HEAD_BYTES = _HEAD.size
_MAX_JSON_BYTES = 1_000_000
_ERRORS: Mapping[str, type[Exception]] = {name: getattr(errors, name) for name in errors.__all__}


class FrameError(Exception):
    """What arrived is no frame, or none that was expected."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A decoder process has started. pid: its own."""

    pid: int


@dataclass(frozen=True, slots=True)
class Job:
    """One file to decode; its bytes follow.

    side_pixels: the side of the square that the image is squeezed to; for a picture, its longest
        side, and a smaller one is not enlarged.
    resample: how it is squeezed, as `PreprocessConfig.resample`; None asks for a picture.
    memory_bytes: what decoding may take without a grant.
    """

    side_pixels: int
    resample: str | None
    limits: DecodeLimits
    memory_bytes: int = 0

    @property
    def max_pixel_bytes(self) -> int:
        """The most bytes that the answer's pixels take."""
        return 3 * self.side_pixels**2

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild a job, with its limits."""
        limits = DecodeLimits(**{**fields["limits"], "formats": tuple(fields["limits"]["formats"])})
        return cls(**{**fields, "limits": limits})


@dataclass(frozen=True, slots=True)
class Opened:
    """The header is good, and decoding takes `peak_bytes` of memory."""

    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Grant:
    """The opened file may be decoded now, within this memory."""

    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody wants the opened file any more; this has no answer."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image; its RGB pixels follow: (3, S, S) uint8, or a picture's rows.

    width, height, format, warnings: of the file, as in `DecodedImage`.
    pixels_wide, pixels_high: of what follows.
    log: warnings for the service's log.
    is_last: the process has grown too large to go on.
    """

    width: int
    height: int
    format: str
    warnings: list[str]
    pixels_wide: int
    pixels_high: int
    log: list[str]
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no image.

    error: the name of a class of `models.errors`; empty where the program is at fault.
    message: the error's text; where the program is at fault, a traceback for the log.
    log: warnings for the service's log.
    is_last: the process has grown too large to go on.
    """

    error: str
    message: str
    log: list[str]
    is_last: bool = False

    def exception(self) -> Exception | None:
        """Rebuild the library's error; None where the program is at fault."""
        kind = _ERRORS.get(self.error)
        return None if kind is None else kind(self.message)


Message: TypeAlias = Hello | Job | Opened | Grant | Drop | Decoded | Failed
_KINDS: Mapping[str, type[Message]] = {
    kind.__name__: kind for kind in (Hello, Job, Opened, Grant, Drop, Decoded, Failed)
}


def encode_frame(message: Message, payload_bytes: int = 0) -> bytes:
    """Write a frame up to the bytes behind it, of which there are `payload_bytes`."""
    body = json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()
    return _HEAD.pack(len(body), payload_bytes) + body


def parse_head(head: bytes, *, max_payload_bytes: int) -> tuple[int, int]:
    """Read the two lengths of a frame. Raises FrameError where one is too large."""
    json_bytes, payload_bytes = _HEAD.unpack(head)
    if json_bytes > _MAX_JSON_BYTES or payload_bytes > max_payload_bytes:
        raise FrameError(f"a frame of {json_bytes} and {payload_bytes} bytes")
    return json_bytes, payload_bytes


def parse_message(body: bytes) -> Message:
    """Read the object of a frame. Raises FrameError where it is none that is known."""
    try:
        fields = json.loads(body)
        kind = _KINDS[fields.pop("kind")]
        return Job.parse(fields) if kind is Job else kind(**fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FrameError(f"no message: {body[:100]!r}") from error
