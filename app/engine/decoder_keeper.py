"""Keeps a number of decoder processes alive, and hands them out in the order of asking, but for
those who may go first.

Knows neither images nor memory. For one event loop.

A process that ends, for whatever reason, is replaced at once; one that cannot be started is tried
again, after pauses that grow.
"""

import asyncio
import logging
from collections import deque

from app.core.errors import NotReadyError, StoppingError
from app.core.metrics import Metrics
from app.engine.decoder_process import DecoderProcess, DecoderStartError, EndReason

__all__ = ["DecoderKeeper"]

_logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class DecoderKeeper:
    """Owns the processes, and the line of those who want one."""

    def __init__(
        self, *, processes: int, timeout_seconds: float, stuck_seconds: float, metrics: Metrics
    ) -> None:
        """Take how many there are to be; nothing is started.

        timeout_seconds: after which a decode ends its process, even if the service is gone.
        stuck_seconds: after which a process that still works at one image, or does not start,
            counts as stuck.
        """
        self._processes = processes
        self._timeout_seconds = timeout_seconds
        self._stuck_seconds = stuck_seconds
        self._metrics = metrics
        self._idle: list[DecoderProcess] = []  # the last used one last: it is warm
        self._line: deque[asyncio.Future[DecoderProcess]] = deque()
        self._taken: dict[DecoderProcess, float | None] = {}  # since when it works
        self._missing: dict[int, float] = {}  # since when a place has no process
        self._keeping: list[asyncio.Task[None]] = []
        self._stopping = False
        metrics.decoder_processes.set_function(lambda: len(self._idle) + len(self._taken))

    @property
    def waiting(self) -> int:
        """How many wait for a process."""
        return len(self._line)

    def start(self) -> None:
        """Begin to start the processes; whoever comes before they are ready waits."""
        loop = asyncio.get_running_loop()
        for place in range(self._processes):
            self._missing[place] = loop.time()
            self._keeping.append(loop.create_task(self._keep(place), name=f"decoder {place}"))

    async def stop(self) -> None:
        """End every process, and tell whoever waits for one."""
        self._stopping = True
        for turn in self._line:
            if not turn.done():
                turn.set_exception(StoppingError())
        self._line.clear()
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        self._keeping.clear()

    def check_working(self) -> None:
        """Raise NotReadyError if every process is stuck, or does not start."""
        now = asyncio.get_running_loop().time()
        since = [*self._taken.values(), *self._missing.values()]
        late = [each for each in since if each is not None and now - each > self._stuck_seconds]
        if self._keeping and len(late) >= self._processes:
            raise NotReadyError(
                "Pictures cannot be decoded now: every decoder is stuck or does not start. Try "
                "again in a few seconds."
            )

    async def take(self, *, is_first: bool = False) -> DecoderProcess:
        """Wait in line for a process, and have it until `give`. Raises StoppingError.

        is_first: whether to wait ahead of all others.
        """
        if self._stopping:
            raise StoppingError()
        if self._idle:
            process = self._idle.pop()
        else:
            turn: asyncio.Future[DecoderProcess] = asyncio.get_running_loop().create_future()
            (self._line.appendleft if is_first else self._line.append)(turn)
            try:
                process = await turn
            except asyncio.CancelledError:
                if turn in self._line:
                    self._line.remove(turn)
                elif not turn.cancelled():  # it came in the same moment
                    self._offer(turn.result())
                raise
        self._taken[process] = None
        return process

    def give(self, process: DecoderProcess) -> None:
        """Hand a process to the next in line."""
        del self._taken[process]
        if not process.is_ending:
            self._offer(process)

    def works(self, process: DecoderProcess, is_working: bool) -> None:
        """Note that a process that was taken begins, or ends, to work."""
        self._taken[process] = asyncio.get_running_loop().time() if is_working else None

    def _offer(self, process: DecoderProcess) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(process)
                return
        self._idle.append(process)

    async def _keep(self, place: int) -> None:
        """Have a process at this place, always."""
        while True:
            process = await self._start()
            del self._missing[place]
            self._offer(process)
            try:
                reason = await process.wait()
            except asyncio.CancelledError:
                process.kill(EndReason.stopped)
                await process.wait()
                raise
            if process in self._idle:
                self._idle.remove(process)
            self._missing[place] = asyncio.get_running_loop().time()
            self._tell(process, reason)

    async def _start(self) -> DecoderProcess:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await DecoderProcess.start(self._timeout_seconds)
            except DecoderStartError as error:
                _logger.error("a decoder process does not start: %s", error)
            except Exception:  # whatever it is, the place must not stay empty for good
                _logger.exception("a decoder process does not start")
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _tell(self, process: DecoderProcess, reason: EndReason) -> None:
        self._metrics.decoder_restarts.labels(str(reason)).inc()
        quiet = reason in (EndReason.grown, EndReason.abandoned)
        _logger.log(
            logging.INFO if quiet else logging.WARNING,
            "a decoder process has ended and is replaced",
            extra={"pid": process.pid, "reason": str(reason), "last_words": process.last_words},
        )
