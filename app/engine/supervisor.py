"""Watches the thread that computes: replaces it where it hangs or dies, and gives up where that
does not help. Knows no HTTP and no torch.

    turn() ──> one work at a time, in the one inference thread ──> its result
               it takes longer than the limit, or kills the thread ──> InferenceLostError at once,
               a new thread, the probe through it ──> the next turn

Everything that computes with models passes through here, loads excepted, which compute alone. What
still runs in a thread that was left behind is forgotten: a thread cannot be ended from outside.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from time import monotonic
from typing import Any, Protocol, TypeVar

from app.core.errors import InferenceLostError, NotReadyError, StoppingError
from app.core.metrics import Metrics
from app.engine.compute_thread import ComputeThread, ThreadDiedError

__all__ = ["Compute", "EngineState", "InferenceSupervisor"]

_logger = logging.getLogger(__name__)
_RESTART_WINDOW_SECONDS = 600.0
_SUSPICIOUS_BATCHES = 5
_ENDING_SECONDS = 0.2

Value = TypeVar("Value")


class Compute(Protocol):
    """Runs work in the inference thread."""

    async def __call__(self, work: Callable[[], Value]) -> Value:
        """Give what the work returns; raise what it raises, or InferenceLostError."""


class EngineState(StrEnum):
    """The life of an engine.

    `restarting` and `ready` may take turns; `failed` may follow any but the last, and stays.
    """

    loading = "loading"
    warming_up = "warming up"
    ready = "ready"
    restarting = "restarting"
    failed = "failed"
    stopped = "stopped"


class InferenceSupervisor:
    """Owns the inference thread and the engine's state, on one event loop."""

    def __init__(
        self,
        prepare_thread: Callable[[], None],
        *,
        batch_timeout_seconds: float,
        max_restarts: int,
        metrics: Metrics,
    ) -> None:
        """Take the limits.

        prepare_thread: called once in each thread that is started, before all else.
        batch_timeout_seconds: how long one work may take.
        max_restarts: how many new threads are worth starting within ten minutes.
        """
        self._prepare_thread = prepare_thread
        self._batch_timeout_seconds = batch_timeout_seconds
        self._max_restarts = max_restarts
        self._metrics = metrics
        self._thread: ComputeThread | None = None
        self._turn = asyncio.Lock()
        self._probe: Callable[[Compute], Awaitable[None]] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._restarts: deque[float] = deque()
        self._failed_in_a_row = 0
        self._left_behind: list[ComputeThread] = []
        self._running: asyncio.Future[Any] | None = None
        self._state = EngineState.loading
        self._when_failed: Callable[[str], None] = _log_last_word
        self.retry_after_seconds = 2

    @property
    def state(self) -> EngineState:
        """Where the engine is in its life."""
        return self._state

    @property
    def has_left_threads_behind(self) -> bool:
        """Whether a thread that hung still runs, after a moment to end."""
        if self._running is not None and not self._running.done():  # the end was forced
            return True
        return not all(thread.ends_within(_ENDING_SECONDS) for thread in self._left_behind)

    def when_failed(self, callback: Callable[[str], None]) -> None:
        """Set what is called once, with the reason, where only a new process can help.

        It says so in the log; by default that is all it does.
        """
        self._when_failed = callback

    async def start(self) -> None:
        """Start the thread and prepare it. Raises what preparing raises."""
        self._thread = ComputeThread("inference")
        await self.run(self._prepare_thread)

    def fails_to_start(self) -> None:
        """Note that there will be nothing to supervise; whoever started it says why."""
        self.stop()
        self._state = EngineState.failed

    def warms_up(self) -> None:
        """Note that the default model is loaded."""
        self._state = EngineState.warming_up

    def becomes_ready(self, probe: Callable[[Compute], Awaitable[None]]) -> None:
        """Note that a canary has gone through; `probe` sends it again, raising where it fails."""
        self._probe = probe
        self._state = EngineState.ready

    def stop(self) -> None:
        """Run nothing more, and leave the thread to end by itself."""
        if self._recovery is not None:
            self._recovery.cancel()
        self._state = EngineState.stopped
        if self._thread is not None:
            self._thread.stop()
            self._left_behind.append(self._thread)
            self._thread = None

    def check_ready(self) -> None:
        """Raise NotReadyError or StoppingError unless the engine is `ready`."""
        if self._state is EngineState.ready:
            return
        if self._state is EngineState.stopped:
            raise StoppingError()
        if self._state is EngineState.failed:
            raise NotReadyError(
                "The model does not work; the operator finds the reason in the service's log."
            )
        says = f"is {self._state}"
        if self._state is EngineState.restarting:
            says = "hung, or crashed, and is being started again"
        raise NotReadyError(
            f"The model {says}. Try again in a few seconds.",
            retry_after_seconds=self.retry_after_seconds,
        )

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Compute]:
        """Wait for the thread to be free and whole; it is the caller's for the block."""
        async with self._turn:
            if self._recovery is not None:
                await asyncio.wait([self._recovery])
            yield self._compute
            suspicious = self._failed_in_a_row >= _SUSPICIOUS_BATCHES
            if suspicious and self._probe is not None and self._recovery is None:
                self._recover(self._check())

    async def run(self, work: Callable[[], Value]) -> Value:
        """Run one work in a turn of its own."""
        async with self.turn() as compute:
            return await compute(work)

    def judge(self, results: Sequence[object]) -> None:
        """Note how a batch came out: where several in a row fail whole, the model is probed.

        Called on the event loop, within the batch's turn: so a thread that was left behind, and
        ends its batch at last, has no say.
        """
        failed = all(isinstance(result, Exception) for result in results)
        self._failed_in_a_row = self._failed_in_a_row + 1 if failed else 0

    def give_up(self, why: str) -> None:
        """Become `failed` for good, and tell whoever ends the process."""
        if self._state in (EngineState.failed, EngineState.stopped):
            return
        self._state = EngineState.failed
        self._when_failed(why)

    async def _compute(self, work: Callable[[], Value]) -> Value:
        if self._thread is None or self._state is EngineState.failed:
            raise InferenceLostError("The model does not work. Try again later.")
        running = asyncio.wrap_future(self._thread.submit(work))
        self._running = running
        running.add_done_callback(_seen)
        await asyncio.wait([running], timeout=self._batch_timeout_seconds)
        if not running.done():
            raise self._lose("hung", f"nothing after {self._batch_timeout_seconds:g} seconds")
        error = running.exception()
        if isinstance(error, ThreadDiedError):
            raise self._lose("crashed", str(error)) from error
        return running.result()

    def _lose(self, how: str, why: str) -> InferenceLostError:
        """Leave the thread behind and begin to replace it; give what its caller is told."""
        _logger.error("the inference thread %s: %s", how, why)
        self._metrics.inference_lost.labels(how).inc()
        assert self._thread is not None
        self._running = None
        self._thread.stop()
        self._left_behind = [each for each in self._left_behind if each.alive]
        self._left_behind.append(self._thread)
        self._thread = None
        if self._recovery is None:
            if self._probe is not None:
                self._state = EngineState.restarting
            self._recover(self._restart(how))
        return InferenceLostError(
            f"The model {how} while it captioned this picture and those beside it; it is started "
            "again. Try again in a few seconds.",
            retry_after_seconds=self.retry_after_seconds,
        )

    def _recover(self, work: Coroutine[Any, Any, None]) -> None:
        self._recovery = asyncio.get_running_loop().create_task(work, name="recovery")
        self._recovery.add_done_callback(self._recovered)

    def _recovered(self, task: "asyncio.Task[None]") -> None:
        self._recovery = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.give_up(f"the recovery itself failed ({error!r})")

    async def _restart(self, how: str) -> None:
        """Start a new thread, send the canary through it, and be ready again; or give up."""
        if self._probe is None:
            self.give_up(f"the inference thread {how} before the first caption")
            return
        now = monotonic()
        self._restarts.append(now)
        while now - self._restarts[0] > _RESTART_WINDOW_SECONDS:
            self._restarts.popleft()
        if len(self._restarts) > self._max_restarts:
            self.give_up(
                f"the inference thread {how}, and was restarted {self._max_restarts} times within "
                f"{_RESTART_WINDOW_SECONDS / 60:g} minutes already"
            )
            return
        self._thread = ComputeThread("inference")
        why = f"the canary image failed after the inference thread {how}"
        if await self._passes(self._prepare_and_probe(), why):
            self._state = EngineState.ready
            _logger.warning("ready again: a new inference thread took over")

    async def _check(self) -> None:
        """Ask the canary whether the images fail or the model does; then give up."""
        self._failed_in_a_row = 0
        why = f"{_SUSPICIOUS_BATCHES} batches in a row failed, and so did the canary image"
        await self._passes(self._send_canary(), why)

    async def _prepare_and_probe(self) -> None:
        await self._compute(self._prepare_thread)
        await self._send_canary()

    async def _send_canary(self) -> None:
        if self._probe is not None:
            await self._probe(self._compute)

    async def _passes(self, attempt: Awaitable[None], why: str) -> bool:
        """Tell whether the attempt succeeds; where it does not, give up."""
        try:
            await attempt
        except Exception as error:  # noqa: BLE001  whatever it is, it is the reason
            self.give_up(f"{why} ({type(error).__name__}: {error})")
            return False
        return True


def _log_last_word(why: str) -> None:
    _logger.critical("cannot go on: %s", why)


def _seen(future: "asyncio.Future[Any]") -> None:
    """Look at what came of a work, so that nothing complains that nobody did."""
    if not future.cancelled():
        future.exception()
