"""The program of a decoder process: files in, pixels out, over the socket that is its standard
input. Knows no service, no model and no torch.

    python -m app.engine.decode_worker TIMEOUT_SECONDS

Reading hostile files is the most dangerous thing that the service does, so it is done here: what
goes wrong ends this process and no other, and what it takes is bounded by the system. It ends when
the socket closes, and by the clock where a decode outlives its time; signals that are meant for the
service (Ctrl-C, a supervisor's SIGTERM to the whole group) do not disturb a decode.
"""

import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import traceback
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from app.engine.decode_protocol import (
    HEAD_BYTES,
    Decoded,
    Drop,
    Failed,
    Grant,
    Hello,
    Job,
    Message,
    Opened,
    encode_frame,
    parse_head,
    parse_message,
)
from models.errors import GlimpseError, OutOfMemoryError
from models.preprocessing import DecodedImage, OpenedImage, open_image, prepare_image

__all__ = ["main"]

_MAX_FILE_BYTES = 1_000_000_000
_MAX_OPEN_FILES = 64
_MAX_LOG_LINES = 10
_MAX_LOG_LETTERS = 500
# Beside what a decode is granted: stacks of the codecs' threads, the answer, the interpreter.
_SLACK_BYTES = 64_000_000 + 10_000_000 * (os.cpu_count() or 1)
# What reading a header may take, beside the file: tables of Python objects.
_HEADER_BYTES = 200_000_000
# A decode of more than this leaves holes in the heap that are given back at once.
_LARGE_BYTES = 16_000_000
# A process that keeps more than this above what it began with is replaced.
_KEPT_BYTES = 64_000_000
# The service's own clock comes first; this one ends a decode that the service no longer watches.
_GRACE_SECONDS = 5.0


class _Squeeze(NamedTuple):
    """What `prepare_image` asks of a configuration, which takes long to import."""

    size_pixels: int
    resample: str


class _Log(logging.Handler):
    """Keeps warnings, for the answer to carry: standard error is not the place for them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < _MAX_LOG_LINES:
            self.lines.append(record.getMessage()[:_MAX_LOG_LETTERS])

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


class _Worker:
    """Answers one job after another."""

    def __init__(self, channel: socket.socket, timeout_seconds: float) -> None:
        self._channel = channel
        self._timeout_seconds = timeout_seconds + _GRACE_SECONDS
        self._opened: tuple[Job, OpenedImage] | None = None
        self._log = _Log()
        logging.captureWarnings(True)
        # Python would remember every text that it has shown, and files write some of these.
        warnings.filterwarnings("always", module=r"PIL\.")
        logging.getLogger().addHandler(self._log)
        self._first_bytes = _memory_bytes()[1]

    def run(self) -> None:
        """Answer until the socket closes."""
        self._send(Hello(os.getpid()))
        while (received := self._receive()) is not None:
            message, data = received
            signal.setitimer(signal.ITIMER_REAL, self._timeout_seconds)
            if isinstance(message, Job):
                self._open(message, data)
            elif isinstance(message, Grant) and self._opened is not None:
                _limit_memory(message.memory_bytes)
                self._decode(*self._opened)
            elif isinstance(message, Drop):
                self._opened = None
            signal.setitimer(signal.ITIMER_REAL, 0)
            del received, message, data
            _lift_memory_limit()  # the next file may be larger than what this job was granted

    def _open(self, job: Job, data: bytes) -> None:
        self._opened = None
        _limit_memory(_HEADER_BYTES)
        try:
            opened = open_image(data, side_pixels=job.side_pixels, limits=job.limits)
        except Exception as error:  # noqa: BLE001  the service is told, whatever it is
            self._send(self._failed(error))
            return
        if opened.peak_bytes <= job.memory_bytes:
            _limit_memory(job.memory_bytes)
            self._decode(job, opened)
        else:
            self._opened = (job, opened)
            self._send(Opened(opened.peak_bytes))

    def _decode(self, job: Job, opened: OpenedImage) -> None:
        self._opened = None
        pixels = b""
        is_large = opened.peak_bytes > _LARGE_BYTES
        try:
            image = opened.decode()
            del opened
            pixels, wide, high = _pixels(image, job)
            answer: Decoded | Failed = Decoded(
                width=image.width,
                height=image.height,
                format=image.format,
                warnings=list(image.warnings),
                pixels_wide=wide,
                pixels_high=high,
                log=self._log.take(),
            )
            del image
        except Exception as error:  # noqa: BLE001  the service is told, whatever it is
            answer = self._failed(error)
        if is_large:
            answer = replace(answer, is_last=self._has_grown())
        self._send(answer, pixels)

    def _has_grown(self) -> bool:
        """Give the free parts of the heap back to the system; tell whether too much is left."""
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        return _memory_bytes()[1] > self._first_bytes + _KEPT_BYTES

    def _failed(self, error: Exception) -> Failed:
        if isinstance(error, MemoryError):
            error = OutOfMemoryError(
                "There is no memory to decode the picture now. Try again in a few seconds, or send "
                "a smaller copy."
            )
        if isinstance(error, GlimpseError):
            return Failed(type(error).__name__, str(error), self._log.take())
        return Failed("", "".join(traceback.format_exception(error)), self._log.take())

    def _send(self, message: Message, payload: bytes = b"") -> None:
        self._channel.sendall(encode_frame(message, len(payload)))
        self._channel.sendall(payload)

    def _receive(self) -> tuple[Message, bytes] | None:
        head = self._read(HEAD_BYTES)
        if head is None:
            return None
        json_bytes, payload_bytes = parse_head(head, max_payload_bytes=_MAX_FILE_BYTES)
        body = self._read(json_bytes)
        data = self._read(payload_bytes)
        return None if body is None or data is None else (parse_message(body), data)

    def _read(self, count: int) -> bytes | None:
        """Read so many bytes, as a rule without a second copy; None where the socket closes."""
        parts: list[bytes] = []
        while count:
            part = self._channel.recv(count, socket.MSG_WAITALL)
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _pixels(image: DecodedImage, job: Job) -> tuple[bytes, int, int]:
    """Bring an image to the size that a job asks for: its bytes, width and height."""
    if job.resample is None:
        rgb = image.rgb
        rgb.thumbnail((job.side_pixels, job.side_pixels))
        return rgb.tobytes(), rgb.width, rgb.height
    pixels = prepare_image(image, _Squeeze(job.side_pixels, job.resample)).pixels
    return pixels.tobytes(), job.side_pixels, job.side_pixels


def _memory_bytes() -> tuple[int, int]:
    """Tell this process' address space and its resident memory; zeros where nobody knows."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0, 0
    return int(pages[0]) * resource.getpagesize(), int(pages[1]) * resource.getpagesize()


def _limit_memory(more_bytes: int) -> None:
    """Let this process grow by so many bytes, and some slack; then its allocations fail."""
    taken_bytes = _memory_bytes()[0]
    if taken_bytes:
        _lower_limit(resource.RLIMIT_AS, taken_bytes + more_bytes + _SLACK_BYTES)


def _lift_memory_limit() -> None:
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _lower_limit(kind: int, value: int) -> None:
    """Set a limit that holds now; what the system allows at most stays as it is."""
    _, most = resource.getrlimit(kind)
    now = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(kind, (now, most))


def _harden() -> None:
    """Give up what a decoder does not need: cores to dump, which hold images; descriptors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _lower_limit(resource.RLIMIT_CORE, 0)
    _lower_limit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)


def main() -> None:
    """Take the socket from standard input, and decode until it closes."""
    _harden()
    channel = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        _Worker(channel, float(sys.argv[1])).run()
    except (BrokenPipeError, ConnectionResetError):
        return  # the service is gone


if __name__ == "__main__":
    main()
