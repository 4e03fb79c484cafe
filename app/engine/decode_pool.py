"""Decodes images in processes: a decode can be ended, and harms nobody but its own caller.

Knows no captioner and no HTTP. For one event loop.

    prepare(bytes) ──> in line for a process ──> header ──────────────────────> decode ──> pixels
                                                   └─> in line for memory ──> a process

An image that takes little memory, or finds what it takes, is decoded at once. Another one holds no
process while it waits; smaller ones may overtake it, as often as `app.engine.byte_budget` allows.

Every caller is answered on every path:

    the file is bad                      its ImageError
    more memory than there is in all     ImageTooLargeError
    longer than the time limit           the process is killed; ImageTooSlowError where it computed
                                         for a quarter of it or more, else
                                         DecoderLostError
    a codec breaks                       ImageCrashError
    somebody ends the process            DecoderLostError
    the caller goes away                 its process is killed, unless it ends in a moment
    the service stops                    StoppingError
    our program is at fault              DecoderFailedError
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NoReturn

import numpy as np
from PIL import Image

from app.core.errors import DecoderFailedError, DecoderLostError, StoppingError
from app.core.metrics import Metrics
from app.engine.byte_budget import ByteBudget
from app.engine.decode_protocol import Decoded, Failed, Grant, Job, Message, Opened
from app.engine.decoder_keeper import DecoderKeeper
from app.engine.decoder_process import DecoderEndedError, DecoderProcess, EndReason
from models.config import PreprocessConfig
from models.errors import ImageCrashError, ImageTooLargeError, ImageTooSlowError
from models.preprocessing import DecodeLimits, PreparedImage

__all__ = ["DecodePool"]

_warnings_logger = logging.getLogger("py.warnings")  # where they would be, had we decoded here

# A decode whose caller went away may end by itself in this time: most do, and a new process costs
# more.
_ABANDONED_SECONDS = 0.5
# Of the time limit. After the first share of it a process is stuck; a decode that has computed for
# the second was slow by itself.
_STUCK_SHARE = 0.5
_OWN_FAULT_SHARE = 0.25

# What most photos take, reduced while they are decoded; granted before it is known.
_SMALL_BYTES = 8_000_000

_Pixels = tuple[Decoded, bytearray]


class _Call:
    """One decode: what is left of its time, and the process that works at it now, if one does."""

    def __init__(self, job: Job, data: bytes, left_seconds: float) -> None:
        self.job = job
        self.data = data
        self.left_seconds = left_seconds
        self.cpu_seconds = math.nan  # of the process, before
        self.working: DecoderProcess | None = None


class DecodePool:
    """Owns the decoder processes, and the memory that they share."""

    def __init__(
        self,
        limits: DecodeLimits,
        *,
        processes: int,
        memory_bytes: int,
        timeout_seconds: float,
        metrics: Metrics,
    ) -> None:
        """Take the limits; nothing is started.

        memory_bytes: what all decodes together may take, beside the processes and the files.
        timeout_seconds: how long one decode may take, its waits not counted.
        """
        self._limits = limits
        self._memory_bytes = memory_bytes
        self._small_bytes = min(_SMALL_BYTES, memory_bytes)
        self._timeout_seconds = timeout_seconds
        self._budget = ByteBudget(memory_bytes)
        self._keeper = DecoderKeeper(
            processes=processes,
            timeout_seconds=timeout_seconds,
            stuck_seconds=_STUCK_SHARE * timeout_seconds,
            metrics=metrics,
        )
        self._calls: set[asyncio.Task[_Pixels]] = set()
        metrics.decode_memory_bytes.set_function(lambda: self._budget.used_bytes)
        metrics.decode_waiting.set_function(lambda: self._keeper.waiting + self._budget.waiting)

    def start(self) -> None:
        """Begin to start the processes; whoever comes before they are ready waits."""
        self._keeper.start()

    async def stop(self) -> None:
        """End every process, and tell whoever still waits."""
        await self._keeper.stop()
        for call in self._calls:  # those that wait for memory
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def check_working(self) -> None:
        """Raise NotReadyError if every process is stuck, or does not start."""
        self._keeper.check_working()

    async def prepare(self, data: bytes, config: PreprocessConfig) -> PreparedImage:
        """Decode one file and squeeze it for a model, as `Captioner.prepare` does."""
        side = config.size_pixels
        image, pixels = await self._run(Job(side, config.resample, self._limits), data)
        return PreparedImage(
            pixels=np.frombuffer(pixels, np.uint8).reshape(3, side, side),
            width=image.width,
            height=image.height,
            format=image.format,
            warnings=tuple(image.warnings),
        )

    async def picture(self, data: bytes, side_pixels: int) -> Image.Image:
        """Decode one file to an RGB image with sides of at most `side_pixels`."""
        image, pixels = await self._run(Job(side_pixels, None, self._limits), data)
        size = (image.pixels_wide, image.pixels_high)
        return Image.frombytes("RGB", size, bytes(pixels))

    async def _run(self, job: Job, data: bytes) -> _Pixels:
        """Do a job in a task of its own, which outlives a caller that goes away."""
        call = _Call(job, data, self._timeout_seconds)
        task = asyncio.get_running_loop().create_task(self._do(call))
        self._calls.add(task)
        task.add_done_callback(self._forget)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise StoppingError() from None
            _abandon(task, call)
            raise

    def _forget(self, task: asyncio.Task[_Pixels]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even if its caller went away

    async def _do(self, call: _Call) -> _Pixels:
        done = await self._begin(call)
        if isinstance(done, int):
            done = await self._go_on(call, done)
        answer, pixels = done
        _log(answer.log)
        return answer, pixels

    async def _begin(self, call: _Call) -> _Pixels | int:
        """Have a file opened, and decoded if the memory is there; else give what it takes."""
        async with self._process(call) as process:
            answer, pixels = await self._open(process, call)
            if isinstance(answer, Opened):
                peak_bytes = answer.peak_bytes
                if not self._budget.take_now(peak_bytes):
                    process.drop()
                    return peak_bytes
                try:
                    answer, pixels = await self._ask(process, call, Grant(peak_bytes))
                finally:
                    self._budget.give(peak_bytes)
            return self._judge(process, call, answer, pixels)

    async def _go_on(self, call: _Call, peak_bytes: int) -> _Pixels:
        """Wait for the memory, holding no process; then have the file decoded from anew.

        Who has memory comes first in the line for a process.
        """
        self._check_memory(peak_bytes)
        async with (
            self._budget.taking(peak_bytes),
            self._process(call, is_first=True) as process,
        ):
            job = replace(call.job, memory_bytes=peak_bytes)
            answer, pixels = await self._ask(process, call, job, call.data)
            return self._judge(process, call, answer, pixels)

    @asynccontextmanager
    async def _process(
        self, call: _Call, *, is_first: bool = False
    ) -> AsyncIterator[DecoderProcess]:
        """Wait in line for a process, and have it until the end of the block."""
        process = await self._keeper.take(is_first=is_first)
        try:
            call.cpu_seconds = process.cpu_seconds()
            yield process
        finally:
            self._keeper.give(process)

    async def _open(self, process: DecoderProcess, call: _Call) -> tuple[Message, bytearray]:
        """Have the header read, and the image decoded if that takes little, and little is there."""
        if not self._budget.take_now(self._small_bytes):
            return await self._ask(process, call, call.job, call.data)
        try:
            job = replace(call.job, memory_bytes=self._small_bytes)
            return await self._ask(process, call, job, call.data)
        finally:
            self._budget.give(self._small_bytes)

    async def _ask(
        self, process: DecoderProcess, call: _Call, message: Message, data: bytes = b""
    ) -> tuple[Message, bytearray]:
        """Ask a process, and end it where that takes too long; raise what it says is wrong."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        call.working = process
        self._keeper.works(process, True)
        try:
            async with asyncio.timeout(call.left_seconds):
                answer, payload = await process.ask(
                    message, data, max_payload_bytes=call.job.max_pixel_bytes
                )
        except TimeoutError as error:
            self._end_slow(process, call, error)
        except DecoderEndedError as error:
            _raise_end(error)
        except asyncio.CancelledError:
            process.kill(EndReason.abandoned)
            raise
        finally:
            self._keeper.works(process, False)
            call.working = None
            call.left_seconds -= loop.time() - started
        if isinstance(answer, Decoded | Failed) and answer.is_last:
            process.kill(EndReason.grown)
        if isinstance(answer, Failed):
            _raise_failure(answer)
        return answer, payload

    def _end_slow(self, process: DecoderProcess, call: _Call, cause: TimeoutError) -> NoReturn:
        """End a decode that takes too long, and say whose fault it is.

        One that has hardly computed was stopped, or the machine had no time for it.
        """
        before, after = call.cpu_seconds, process.cpu_seconds()
        process.kill(EndReason.too_slow)
        # Not a number where the system does not say: then it is not the file's fault.
        if not after - before >= _OWN_FAULT_SHARE * self._timeout_seconds:
            raise DecoderLostError(
                f"The picture was not decoded within {self._timeout_seconds:g} seconds, as the "
                "service had no time for it. Try again in a few seconds."
            ) from cause
        raise ImageTooSlowError(
            f"The picture takes longer than {self._timeout_seconds:g} seconds to decode. Save it "
            "again as JPEG or PNG, or send a smaller copy."
        ) from cause

    def _check_memory(self, peak_bytes: int) -> None:
        if peak_bytes > self._memory_bytes:
            raise ImageTooLargeError(
                f"Decoding the picture takes about {peak_bytes / 1e6:,.0f} MB of memory; there are "
                f"{self._memory_bytes / 1e6:,.0f} MB. Send a smaller copy, or save it as JPEG."
            )

    def _judge(
        self, process: DecoderProcess, call: _Call, answer: Message, pixels: bytearray
    ) -> _Pixels:
        """Give what was asked for; end a process that answers what was not, before others get it.

        Raises DecoderFailedError.
        """
        if not isinstance(answer, Decoded) or not _is_whole(answer, pixels, call.job):
            process.kill(EndReason.failed)
            raise DecoderFailedError(f"a decoder process answered with {type(answer).__name__}")
        return answer, pixels


def _abandon(task: asyncio.Task[_Pixels], call: _Call) -> None:
    """End what nobody wants: at once where it waits, else if it does not end in a moment."""
    if call.working is None:
        task.cancel()
        return
    timer = asyncio.get_running_loop().call_later(_ABANDONED_SECONDS, _end, task, call)
    task.add_done_callback(lambda _: timer.cancel())


def _end(task: asyncio.Task[_Pixels], call: _Call) -> None:
    """End a call where it stands: it may have begun to wait for memory since."""
    if call.working is None:
        task.cancel()
    else:
        call.working.kill(EndReason.abandoned)


def _is_whole(answer: Decoded, pixels: bytearray, job: Job) -> bool:
    """Tell whether an answer has the pixels that it speaks of."""
    squeezed = job.resample is None or answer.pixels_wide == answer.pixels_high == job.side_pixels
    return squeezed and len(pixels) == 3 * answer.pixels_wide * answer.pixels_high


def _log(warnings: list[str]) -> None:
    for warning in warnings:
        _warnings_logger.warning("%s", warning)


def _raise_failure(failed: Failed) -> NoReturn:
    _log(failed.log)
    error = failed.exception()
    raise DecoderFailedError(failed.message) if error is None else error


def _raise_end(ended: DecoderEndedError) -> NoReturn:
    if ended.reason is EndReason.stopped:
        raise StoppingError() from ended
    if ended.reason is EndReason.crashed:
        raise ImageCrashError(
            "The picture breaks the program that decodes its format. Save it again as JPEG or PNG."
        ) from ended
    if ended.reason is EndReason.too_slow:  # it ended itself: the service had no time to
        raise ImageTooSlowError(
            "The picture takes too long to decode. Save it again as JPEG or PNG, or send a smaller "
            "copy."
        ) from ended
    if ended.reason is EndReason.failed:
        raise DecoderFailedError("a decoder process did not do what it should") from ended
    raise DecoderLostError(
        "The process that decoded the picture was ended from outside. Try again in a few seconds."
    ) from ended
