"""Dynamic batching: many callers submit one item each, and one executor runs them together.

Knows no torch and no HTTP.

    submit(item) ──> waiting (max_queue_size) ──> batch ──> run_batch on the executor ──> callers

A batch starts when max_batch_size items wait, or when the oldest has waited max_batch_wait_seconds.
Only one runs at a time; while it does, the next one gathers, so that batches grow by themselves as
the load does.

Every caller is answered on every path:

    run_batch returns                    its result, or, where that is an exception, that exception
    run_batch raises                     BatchFailedError, the cause chained
    run_batch returns too few, too many  BatchFailedError
    the queue is full                    QueueFullError, at once
    the caller goes away                 its item leaves the queue and is never run
    stop()                               what waits is run; what is left at the end: StoppingError
    the batcher itself breaks            StoppingError, and `alive` turns false
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from app.core.errors import BatchFailedError, QueueFullError, StoppingError

__all__ = ["Completed", "DynamicBatcher"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Completed(Generic[Result]):
    """One item's result, its wait for a batch, and the batch's running time and size."""

    result: Result
    queue_seconds: float
    compute_seconds: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item]):
    """An item in the queue; `since` is on the event loop's clock, in seconds."""

    item: Item
    since: float


class DynamicBatcher(Generic[Item, Result]):
    """Gathers items into batches and gives each caller its own result. Lives on one event loop."""

    def __init__(
        self,
        run_batch: Callable[[list[Item]], Sequence[Result | Exception]],
        executor: Executor,
        *,
        max_batch_size: int,
        max_batch_wait_seconds: float,
        max_queue_size: int,
    ) -> None:
        """Take what runs a batch, and where.

        run_batch: gives one result, or one exception, for each item, in order; called on the
            executor.
        """
        self._run_batch = run_batch
        self._executor = executor
        self._max_batch_size = max_batch_size
        self._max_batch_wait_seconds = max_batch_wait_seconds
        self._max_queue_size = max_queue_size
        self._queue: dict[asyncio.Future[Completed[Result]], _Waiting[Item]] = {}  # oldest first
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

    def start(self) -> None:
        """Begin to run batches on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="batcher")

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
        if self._stopping or not self.alive:
            raise StoppingError()
        if len(self._queue) >= self._max_queue_size:
            raise QueueFullError(
                f"{self._max_queue_size} pictures wait already. Try again in a few seconds."
            )

    async def submit(self, item: Item) -> Completed[Result]:
        """Queue one item and wait for its result.

        Raises what run_batch returned for the item, BatchFailedError, QueueFullError or
        StoppingError. A caller that is cancelled takes its item with it, unless its batch runs
        already.
        """
        self.check_room()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Completed[Result]] = loop.create_future()
        self._queue[answer] = _Waiting(item, since=loop.time())
        self._changed.set()
        try:
            return await answer
        finally:
            self._queue.pop(answer, None)

    async def _run(self) -> None:
        try:
            while await self._gather():
                await self._run_one_batch()
        finally:
            self._stopping = True
            _abandon(self._queue)

    async def _gather(self) -> bool:
        """Wait until a batch should run; give False when the batcher stops and nothing waits."""
        while not self._queue:
            if self._stopping:
                return False
            await self._change()
        oldest = next(iter(self._queue.values()))
        try:
            async with asyncio.timeout_at(oldest.since + self._max_batch_wait_seconds):
                while len(self._queue) < self._max_batch_size and not self._stopping:
                    await self._change()
        except TimeoutError:
            pass  # the oldest has waited long enough
        return True

    async def _change(self) -> None:
        """Wait until an item is submitted or the batcher is to stop."""
        self._changed.clear()
        await self._changed.wait()

    async def _run_one_batch(self) -> None:
        answers = list(islice(self._queue, self._max_batch_size))
        batch = {answer: self._queue.pop(answer) for answer in answers}
        if not batch:  # every caller went away while the batch gathered
            return
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            items = [waiting.item for waiting in batch.values()]
            results = await loop.run_in_executor(self._executor, self._results, items)
            seconds = loop.time() - started
            for (answer, waiting), result in zip(batch.items(), results, strict=True):
                if answer.done():  # its caller went away while the batch ran
                    continue
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(
                        Completed(result, started - waiting.since, seconds, len(batch))
                    )
        finally:
            _abandon(batch)

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


def _abandon(queue: dict[asyncio.Future[Completed[Result]], _Waiting[Item]]) -> None:
    """Tell every caller that still waits that there will be no result."""
    for answer in queue:
        if not answer.done():
            answer.set_exception(StoppingError())
