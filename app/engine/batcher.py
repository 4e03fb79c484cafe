"""Dynamic batching: many callers submit one item each, and one thread runs them together.

Knows no torch and no HTTP.

    submit(item) ──> waiting (max_queue_size) ──> batch ──> run_batch in its turn ──> callers

A batch starts when max_batch_size items wait, when nobody else is `coming`, or when the oldest has
waited max_batch_wait_seconds. Only one runs at a time; while it does, the next one gathers, so that
batches grow by themselves as the load does.

Every caller is answered on every path:

    run_batch returns                    its result, or, where that is an exception, that exception
    run_batch raises                     BatchFailedError, the cause chained
    run_batch returns too few, too many  BatchFailedError
    the thread hangs or dies             InferenceLostError, as the turn raises it
    the queue is full                    QueueFullError, at once
    its deadline passes in the queue     RequestTimeoutError, and it is never run
    it yields, and others wait           after them, or beside them once it has waited long
    the caller goes away                 its item leaves the queue and is never run
    stop()                               what waits is run; what is left at the end: StoppingError
    the batcher itself breaks            StoppingError, and `alive` turns false
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Generic, Protocol, TypeVar

from app.core.errors import (
    BatchFailedError,
    BusyError,
    InferenceLostError,
    QueueFullError,
    RequestTimeoutError,
    StoppingError,
)
from app.engine.drain_rate import DrainRate

__all__ = ["Completed", "DynamicBatcher"]

# What yields goes in small batches, so that whoever comes meanwhile waits for a short one; and once
# it has waited this long, one at a time goes along with others that never end.
_MOST_YIELDING = 4
_LONGEST_YIELD_SECONDS = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")
Value = TypeVar("Value")


class _Compute(Protocol):
    """Runs work where batches run; raises InferenceLostError where it is lost."""

    def __call__(self, work: Callable[[], Value]) -> Awaitable[Value]: ...


@dataclass(frozen=True, slots=True)
class Completed(Generic[Result]):
    """One item's result, its wait for a batch, and the batch's running time and size."""

    result: Result
    queue_seconds: float
    compute_seconds: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item]):
    """An item in the queue; `since` and `deadline` are on the event loop's clock, in seconds."""

    item: Item
    since: float
    deadline: float


_Batch = dict[asyncio.Future[Completed[Result]], _Waiting[Item]]


class DynamicBatcher(Generic[Item, Result]):
    """Gathers items into batches and gives each caller its own result. Lives on one event loop."""

    def __init__(
        self,
        run_batch: Callable[[list[Item]], Sequence[Result | Exception]],
        turn: Callable[[], AbstractAsyncContextManager[_Compute]],
        *,
        judge: Callable[[Sequence[object]], None] = lambda _: None,
        max_batch_size: int,
        max_batch_wait_seconds: float,
        max_queue_size: int,
    ) -> None:
        """Take what runs a batch, and where.

        run_batch: gives one result, or one exception, for each item, in order.
        turn: waits until a batch may run, and gives what runs work.
        judge: is shown the results of each batch whose thread was not lost, on the event loop.
        """
        self._run_batch = run_batch
        self._turn = turn
        self._judge = judge
        self._max_batch_size = max_batch_size
        self._max_batch_wait_seconds = max_batch_wait_seconds
        self._max_queue_size = max_queue_size
        self._queue: dict[asyncio.Future[Completed[Result]], _Waiting[Item]] = {}  # oldest first
        self._yielding: dict[asyncio.Future[Completed[Result]], _Waiting[Item]] = {}
        self._coming = 0
        self._rate = DrainRate()
        self._changed = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """How many items wait for a batch now."""
        return len(self._queue)

    @property
    def alive(self) -> bool:
        """Whether batches are being run."""
        return self._task is not None and not self._task.done()

    @property
    def retry_after_seconds(self) -> int:
        """In how many seconds what waits now will have been captioned, at the measured rate."""
        return self._rate.retry_after_seconds(len(self._queue) + 1)

    def start(self, *, when_broken: Callable[[str], None] = lambda _: None) -> None:
        """Begin to run batches on the running event loop.

        when_broken: called with the reason if the batcher itself breaks.
        """
        self._task = asyncio.get_running_loop().create_task(self._run(), name="batcher")
        self._task.add_done_callback(partial(_report, when_broken))

    async def stop(self, *, drain_seconds: float) -> None:
        """Accept nothing more and run what waits, for `drain_seconds` at most."""
        self._stopping = True
        self._changed.set()
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=drain_seconds)
        self._task.cancel()
        await asyncio.wait([self._task])

    def check_room(self) -> None:
        """Raise what `submit` would raise at once: StoppingError or QueueFullError."""
        self._check_running()
        if len(self._queue) >= self._max_queue_size:
            raise QueueFullError(
                f"{self._max_queue_size} pictures wait already. Try again in a few seconds.",
                retry_after_seconds=self.retry_after_seconds,
            )

    def _check_running(self) -> None:
        if self._stopping or not self.alive:
            raise StoppingError()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Announce an item that is on its way: until the block ends, a batch may wait for it."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._changed.set()

    async def submit(
        self, item: Item, *, deadline: float = math.inf, yields: bool = False
    ) -> Completed[Result]:
        """Queue one item and wait for its result.

        deadline: on the event loop's clock; an item that still waits then is not run.
        yields: it lets all others go first, and takes no place of theirs in the queue.
        Raises what run_batch returned for the item, BatchFailedError, InferenceLostError,
        QueueFullError, RequestTimeoutError or StoppingError. A caller that is cancelled takes its
        item with it, unless its batch runs already.
        """
        if yields:
            self._check_running()
        else:
            self.check_room()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Completed[Result]] = loop.create_future()
        queue = self._yielding if yields else self._queue
        queue[answer] = _Waiting(item, since=loop.time(), deadline=deadline)
        self._changed.set()
        try:
            return await answer
        finally:
            queue.pop(answer, None)

    async def _run(self) -> None:
        try:
            while await self._gather():
                await self._run_one_batch()
        finally:
            self._stopping = True
            _abandon(self._queue | self._yielding, StoppingError())

    async def _gather(self) -> bool:
        """Wait until a batch should run; give False when the batcher stops and nothing waits."""
        while not self._queue:
            if self._stopping:
                return False
            if self._yielding:
                return True
            await self._change()
        oldest = next(iter(self._queue.values()))
        try:
            async with asyncio.timeout_at(oldest.since + self._max_batch_wait_seconds):
                while self._may_grow():
                    await self._change()
        except TimeoutError:
            pass  # the oldest has waited long enough
        return True

    def _may_grow(self) -> bool:
        """Tell whether a batch that waits longer may have more items."""
        has_room = len(self._queue) < self._max_batch_size
        return has_room and self._coming > 0 and not self._stopping

    async def _change(self) -> None:
        """Wait until an item is submitted or announced, or the batcher is to stop."""
        self._changed.clear()
        await self._changed.wait()

    async def _run_one_batch(self) -> None:
        async with self._turn() as compute:
            batch = self._take_batch()
            if batch:  # else every caller went away while the batch gathered
                await self._answer(batch, compute)

    def _take_batch(self) -> _Batch[Result, Item]:
        """Take the next batch from the queue, without those whose deadline has passed."""
        now = asyncio.get_running_loop().time()
        self._drop_late(self._queue, now)
        self._drop_late(self._yielding, now)
        if not self._queue:
            return self._take(self._yielding, min(_MOST_YIELDING, self._max_batch_size))
        overdue = next(iter(self._yielding.values()), None)
        if overdue is None or now - overdue.since < _LONGEST_YIELD_SECONDS:
            return self._take(self._queue, self._max_batch_size)
        batch = self._take(self._yielding, 1)
        return batch | self._take(self._queue, max(self._max_batch_size - 1, 1))

    def _drop_late(self, queue: _Batch[Result, Item], now: float) -> None:
        for answer in [each for each, waiting in queue.items() if waiting.deadline <= now]:
            del queue[answer]
            if not answer.done():
                answer.set_exception(self._too_late())

    def _take(self, queue: _Batch[Result, Item], most: int) -> _Batch[Result, Item]:
        answers = list(islice(queue, most))
        return {answer: queue.pop(answer) for answer in answers}

    async def _answer(self, batch: _Batch[Result, Item], compute: _Compute) -> None:
        """Run a batch, and answer each of its callers that still waits."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            items = [waiting.item for waiting in batch.values()]
            results = await compute(partial(self._results, items))
            seconds = loop.time() - started
            self._judge(results)
            self._rate.record(len(batch), seconds)
            for (answer, waiting), result in zip(batch.items(), results, strict=True):
                if answer.done():  # its caller went away while the batch ran
                    continue
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(
                        Completed(result, started - waiting.since, seconds, len(batch))
                    )
        except InferenceLostError as error:
            _abandon(batch, error)
        finally:
            _abandon(batch, StoppingError())

    def _too_late(self) -> RequestTimeoutError:
        return RequestTimeoutError(
            "The request's time was over before its turn came. Try again later, or allow it more "
            "time.",
            retry_after_seconds=self.retry_after_seconds,
        )

    def _results(self, items: list[Item]) -> Sequence[Result | Exception]:
        """Run a batch, on the executor: give as many results as items, whatever run_batch does."""
        try:
            results = self._run_batch(items)
        except Exception as error:  # noqa: BLE001  every caller gets it
            return [_failure(f"run_batch raised {type(error).__name__}", error)] * len(items)
        if len(results) != len(items):
            message = f"run_batch returned {len(results)} results for {len(items)} items"
            return [_failure(message)] * len(items)
        # A future refuses StopIteration, which would leave its caller waiting.
        return [
            _failure("StopIteration", each) if isinstance(each, StopIteration) else each
            for each in results
        ]


def _failure(message: str, cause: Exception | None = None) -> BatchFailedError:
    failure = BatchFailedError(message)
    failure.__cause__ = cause
    return failure


def _abandon(batch: _Batch[Result, Item], error: BusyError) -> None:
    """Tell every caller that still waits why there will be no result."""
    for answer in batch:
        if not answer.done():
            answer.set_exception(_copy(error))


def _report(when_broken: Callable[[str], None], task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        when_broken(f"the batcher broke ({error!r})")


def _copy(error: BusyError) -> BusyError:
    """Copy an error: callers that raise one object would share its traceback."""
    return type(error)(str(error), retry_after_seconds=error.retry_after_seconds)
