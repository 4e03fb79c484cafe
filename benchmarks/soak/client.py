"""One request over a socket of its own, to its answer or to a hang-up. Knows no load."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.soak.files import BOUNDARY, Upload

__all__ = ["Outcome", "hang_up", "send"]

_TIMEOUT_SECONDS = 90.0
_PIECE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request.

    began: by the monotonic clock, in seconds.
    status: of the answer; 0 where there was none.
    """

    upload: Upload
    began: float
    seconds: float
    status: int
    hung_up: bool = False

    @property
    def captioned(self) -> bool:
        """Whether a photo got its caption."""
        return self.status == 200

    @property
    def undeclared(self) -> bool:
        """Whether the answer is none that the documentation allows: the right one, or 503."""
        return not self.hung_up and self.status not in self.upload.right | {503}


async def send(port: int, upload: Upload, path: str = "/caption") -> Outcome:
    """Send one upload and read its answer."""
    began = time.monotonic()
    status = 0
    with suppress(OSError, TimeoutError, ValueError, IndexError):
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(_head(upload, path) + upload.body)
                answer = await reader.read(_PIECE_BYTES)
                status = int(answer.split(b" ", 2)[1])
                while await reader.read(_PIECE_BYTES):
                    pass
            finally:
                writer.close()
    return Outcome(upload, began, time.monotonic() - began, status)


async def hang_up(port: int, upload: Upload, share: float, after_seconds: float) -> Outcome:
    """Send a share of an upload, wait, and close the connection without reading the answer."""
    began = time.monotonic()
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        request = _head(upload, "/caption") + upload.body
        writer.write(request[: round(len(request) * share)])
        await asyncio.sleep(after_seconds)
        writer.close()
    return Outcome(upload, began, time.monotonic() - began, 0, hung_up=True)


def _head(upload: Upload, path: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(upload.body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
