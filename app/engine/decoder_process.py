"""One decoder process, as the service sees it: started, asked, killed, and how it ended.

Knows the protocol, and neither queues nor budgets. For one event loop.
"""

import asyncio
import math
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Self

from app.engine.decode_protocol import (
    HEAD_BYTES,
    Drop,
    FrameError,
    Hello,
    Message,
    encode_frame,
    parse_head,
    parse_message,
)

__all__ = ["DecoderEndedError", "DecoderProcess", "DecoderStartError", "EndReason"]

_PROGRAM = "app.engine.decode_worker"
_START_SECONDS = 30.0
_LAST_WORDS_BYTES = 2_000
# A process whose socket has closed ends by itself; this one does not.
_END_SECONDS = 5.0
# Nothing else of the service's environment, which may hold secrets.
_KEPT_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONDONTWRITEBYTECODE", "TZ")
_VARIABLES = {
    # A block this large is a mapping of its own, given back as soon as it is free; what is smaller
    # is kept for the next photo, up to a limit.
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "MALLOC_TRIM_THRESHOLD_": "16777216",
    "MALLOC_ARENA_MAX": "2",
    # NumPy's linear algebra, which nothing here uses, else starts threads.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_CRASHES = frozenset(
    {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)


class EndReason(StrEnum):
    """Why a decoder process ended."""

    too_slow = "too slow"
    """A decode took longer than it may."""
    abandoned = "abandoned"
    """Nobody wanted its decode any more."""
    crashed = "crashed"
    """A codec broke."""
    killed = "killed"
    """Somebody else ended it: the system where memory is short, or an operator."""
    failed = "failed"
    """The program did not do what it should."""
    grown = "grown"
    """It kept too much memory."""
    stopped = "stopped"
    """The service ends."""


class DecoderStartError(Exception):
    """A decoder process could not be started; the text is for the log."""


class DecoderEndedError(Exception):
    """The process ended before it answered."""

    def __init__(self, reason: EndReason) -> None:
        super().__init__(f"a decoder process ended: {reason}")
        self.reason = reason


class DecoderProcess:
    """A process of `app.engine.decode_worker`; one thing is asked of it at a time."""

    def __init__(self, process: Process, channel: socket.socket) -> None:
        """Take a process and our end of its socket; `start` is how to get one."""
        self._process = process
        self._channel = channel
        self._reason: EndReason | None = None
        self._last_words = b""
        self._in_use = False  # somebody waits at our end of the socket
        self._listening = asyncio.create_task(self._listen(), name=f"decoder {process.pid}")

    @classmethod
    async def start(cls, timeout_seconds: float) -> Self:
        """Start a process that can decode. Raises DecoderStartError.

        timeout_seconds: after which a decode ends its process, even if the service is gone.
        """
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # no descriptors are left
            raise DecoderStartError(f"the system grants no socket: {error}") from error
        ours.setblocking(False)
        command = [sys.executable, "-S", "-P", "-m", _PROGRAM, str(timeout_seconds)]
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=theirs.fileno(), stdout=DEVNULL, stderr=PIPE, env=_environment()
                )
        except (OSError, RuntimeError) as error:  # the second where it starts no thread
            ours.close()
            raise DecoderStartError(f"the system starts no process: {error}") from error
        except BaseException:
            ours.close()
            raise
        decoder = cls(process, ours)
        try:
            async with asyncio.timeout(_START_SECONDS):
                hello, _ = await decoder._converse(b"", b"", 0)
            if not isinstance(hello, Hello):
                raise FrameError(f"{hello} instead of a greeting")
        except (DecoderEndedError, FrameError, OSError, TimeoutError) as error:
            decoder.kill(EndReason.failed)
            await decoder.wait()
            raise DecoderStartError(f"{error!r}; its last words: {decoder.last_words}") from error
        except BaseException:
            decoder.kill(EndReason.stopped)
            await decoder.wait()
            raise
        return decoder

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_ending(self) -> bool:
        """Whether it was killed, or has ended."""
        return self._reason is not None or self._process.returncode is not None

    @property
    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        return self._last_words.decode(errors="replace")

    async def ask(
        self, message: Message, data: bytes = b"", *, max_payload_bytes: int = 0
    ) -> tuple[Message, bytearray]:
        """Send a message and its data, and give the answer.

        Raises DecoderEndedError. Whoever is cancelled here has to kill the process: it is in the
        middle of something.
        """
        try:
            return await self._converse(encode_frame(message, len(data)), data, max_payload_bytes)
        except FrameError as error:
            self.kill(EndReason.failed)
            raise DecoderEndedError(EndReason.failed) from error
        except OSError as error:
            raise DecoderEndedError(await self.wait()) from error

    def drop(self) -> None:
        """Let it forget the file that it has opened."""
        with suppress(OSError):  # it has ended, which will be noticed
            self._channel.send(encode_frame(Drop()))

    def cpu_seconds(self) -> float:
        """Tell the processor time it has used; NaN where the system does not say."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return math.nan
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def kill(self, reason: EndReason) -> None:
        """End it at once; the first reason counts."""
        if self._process.returncode is None:
            self._reason = self._reason or reason
            with suppress(ProcessLookupError):
                self._process.kill()

    async def wait(self) -> EndReason:
        """Wait until it has ended, and tell why; kill it if its socket closed and it does not."""
        await asyncio.shield(self._listening)
        return self._why()

    async def _listen(self) -> None:
        """Keep the end of what it writes, until it ends, and clean up behind it."""
        stream = self._process.stderr
        assert stream is not None
        while piece := await stream.read(_LAST_WORDS_BYTES):
            self._last_words = (self._last_words + piece)[-_LAST_WORDS_BYTES:]
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        if self._process.returncode is None:  # alive, with its standard error closed
            self.kill(EndReason.failed)
            await self._process.wait()
        if not self._in_use:
            self._channel.close()

    def _why(self) -> EndReason:
        code = self._process.returncode
        if self._reason is not None:
            return self._reason
        if code == -signal.SIGALRM:
            return EndReason.too_slow
        if code is not None and -code in _CRASHES:
            return EndReason.crashed
        return EndReason.killed if code is not None and code < 0 else EndReason.failed

    async def _converse(
        self, frame: bytes, data: bytes, max_payload_bytes: int
    ) -> tuple[Message, bytearray]:
        loop = asyncio.get_running_loop()
        self._in_use = True
        try:
            for each in filter(None, (frame, data)):
                await loop.sock_sendall(self._channel, each)
            head = await self._read(HEAD_BYTES)
            json_bytes, payload_bytes = parse_head(bytes(head), max_payload_bytes=max_payload_bytes)
            message = parse_message(bytes(await self._read(json_bytes)))
            return message, await self._read(payload_bytes)
        finally:
            self._in_use = False
            if self._listening.done():
                self._channel.close()

    async def _read(self, count: int) -> bytearray:
        loop = asyncio.get_running_loop()
        read = bytearray(count)
        view = memoryview(read)
        while view:
            received = await loop.sock_recv_into(self._channel, view)
            if not received:
                raise DecoderEndedError(await self.wait())
            view = view[received:]
        return read


def _environment() -> dict[str, str]:
    """Give what the program needs: this process' own modules, and a C library that gives memory
    back."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    root = str(Path(__file__).resolve().parents[2])
    modules = [root, *(each for each in sys.path if each and each != root)]
    return kept | _VARIABLES | {"PYTHONPATH": os.pathsep.join(modules)}
