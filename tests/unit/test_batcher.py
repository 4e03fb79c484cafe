"""The batcher answers every caller on every path. Threads are held by events, never by sleeping."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import pytest

from app.core.errors import (
    BatchFailedError,
    InferenceLostError,
    QueueFullError,
    RequestTimeoutError,
    StoppingError,
)
from app.engine.batcher import DynamicBatcher
from app.engine.supervisor import Compute

Value = TypeVar("Value")

Batcher = DynamicBatcher[int, int]
RunBatch = Callable[[list[int]], Sequence[int | Exception]]
ANSWERED_SECONDS = 20  # a hung caller fails its test instead of hanging the run


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, ANSWERED_SECONDS))


@asynccontextmanager
async def turn(executor: ThreadPoolExecutor) -> AsyncIterator[Compute]:
    async def compute(work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    yield compute


@asynccontextmanager
async def started(
    run_batch: RunBatch,
    executor: ThreadPoolExecutor,
    *,
    size: int = 4,
    wait_seconds: float = 0.0,
    queue: int = 100,
) -> AsyncIterator[Batcher]:
    batcher: Batcher = DynamicBatcher(
        run_batch,
        partial(turn, executor),
        max_batch_size=size,
        max_batch_wait_seconds=wait_seconds,
        max_queue_size=queue,
    )
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop(drain_seconds=ANSWERED_SECONDS)


class Gate:
    """A run_batch that squares, records its batches, and waits at each until the gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, items: list[int]) -> list[int | Exception]:
        self.batches.append(items)
        self.entered.set()
        assert self.open.wait(ANSWERED_SECONDS)
        return [item * item for item in items]

    async def reached(self) -> None:
        while not self.entered.is_set():
            await asyncio.sleep(0.001)


async def submitted(batcher: Batcher, items: Sequence[int]) -> list[asyncio.Task[Any]]:
    """One caller for each item, all of them waiting in the queue."""
    tasks = [asyncio.create_task(batcher.submit(item)) for item in items]
    await asyncio.sleep(0)
    return tasks


async def outcomes(tasks: Sequence[asyncio.Task[Any]]) -> list[Any]:
    """What each caller got: a result, or the exception's class."""
    done = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(each) if isinstance(each, BaseException) else each.result for each in done]


def test_submit_one_item_runs_without_waiting_for_a_full_batch(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        async with started(lambda items: [item + 1 for item in items], executor) as batcher:
            answer = await batcher.submit(1)
            assert (answer.result, answer.batch_size) == (2, 1)
            assert answer.queue_seconds >= 0.0
            assert answer.compute_seconds >= 0.0

    run(scenario())


def test_submit_many_items_each_caller_gets_its_own_result_in_batches_within_the_limit(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor, size=4) as batcher:
            first = await submitted(batcher, [100])
            await gate.reached()
            rest = await submitted(batcher, range(10))
            assert batcher.depth == 10
            gate.open.set()
            assert await outcomes([*first, *rest]) == [10_000, *(item * item for item in range(10))]
        assert gate.batches == [[100], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    run(scenario())


def test_submit_full_batch_starts_before_the_wait_is_over(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        gate = Gate()
        gate.open.set()
        async with started(gate, executor, size=3, wait_seconds=3600.0) as batcher:
            assert await outcomes(await submitted(batcher, [1, 2, 3])) == [1, 4, 9]
        assert gate.batches == [[1, 2, 3]]

    run(scenario())


def test_run_batch_exception_for_one_item_reaches_only_its_caller(
    executor: ThreadPoolExecutor,
) -> None:
    def odd_ones_fail(items: list[int]) -> list[int | Exception]:
        return [ValueError(str(item)) if item % 2 else item for item in items]

    async def scenario() -> None:
        async with started(odd_ones_fail, executor) as batcher:
            assert await outcomes(await submitted(batcher, range(6))) == [
                0,
                ValueError,
                2,
                ValueError,
                4,
                ValueError,
            ]

    run(scenario())


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(), MemoryError()])
def test_run_batch_raising_fails_every_caller_and_the_next_batch_runs(
    executor: ThreadPoolExecutor, error: Exception
) -> None:
    def fails_at_zero(items: list[int]) -> list[int | Exception]:
        if 0 in items:
            raise error
        return list(items)

    async def scenario() -> None:
        async with started(fails_at_zero, executor) as batcher:
            tasks = await submitted(batcher, [0, 1, 2])
            assert await outcomes(tasks) == [BatchFailedError] * 3
            failure = tasks[0].exception()
            assert failure is not None
            assert failure.__cause__ is error
            assert (await batcher.submit(7)).result == 7

    run(scenario())


@pytest.mark.parametrize("results", [[], [1], [1, 2, 3, 4, 5]])
def test_run_batch_wrong_number_of_results_fails_every_caller(
    executor: ThreadPoolExecutor, results: list[int]
) -> None:
    async def scenario() -> None:
        async with started(lambda items: list(results), executor) as batcher:  # noqa: ARG005
            assert await outcomes(await submitted(batcher, [0, 1])) == [BatchFailedError] * 2

    run(scenario())


def test_run_batch_returning_what_a_future_refuses_still_answers(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        async with started(lambda items: [StopIteration() for _ in items], executor) as batcher:
            assert await outcomes(await submitted(batcher, [1])) == [BatchFailedError]

    run(scenario())


def test_run_batch_exiting_the_thread_answers_everyone_and_shows_in_alive(
    executor: ThreadPoolExecutor,
) -> None:
    executor.shutdown()

    async def scenario() -> None:
        async with started(lambda items: items, executor) as batcher:
            tasks = await submitted(batcher, range(6))  # more than one batch
            assert await outcomes(tasks) == [StoppingError] * 6
            assert not batcher.alive
            with pytest.raises(StoppingError):
                await batcher.submit(1)

    run(scenario())


def test_submit_full_queue_raises_at_once_and_recovers(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor, size=1, queue=2) as batcher:
            running = await submitted(batcher, [1])
            await gate.reached()
            waiting = await submitted(batcher, [2, 3])
            with pytest.raises(QueueFullError, match="2 pictures"):
                await batcher.submit(4)
            gate.open.set()
            assert await outcomes([*running, *waiting]) == [1, 4, 9]
            assert (await batcher.submit(5)).result == 25

    run(scenario())


def test_cancelled_caller_in_the_queue_is_never_run_and_makes_room(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor, queue=2) as batcher:
            running = await submitted(batcher, [1])
            await gate.reached()
            gone, staying = await submitted(batcher, [2, 3])
            gone.cancel()
            assert await outcomes([gone]) == [asyncio.CancelledError]
            assert batcher.depth == 1
            late = await submitted(batcher, [4])
            gate.open.set()
            assert await outcomes([*running, staying, *late]) == [1, 9, 16]
        assert gate.batches == [[1], [3, 4]]

    run(scenario())


def test_cancelled_callers_all_of_a_gathering_batch_run_nothing(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        gate = Gate()
        gate.open.set()
        async with started(gate, executor, size=3, wait_seconds=3600.0) as batcher:
            with batcher.coming():
                for task in await submitted(batcher, [1, 2]):
                    task.cancel()
                await asyncio.sleep(0)
            assert await outcomes(await submitted(batcher, [3, 4, 5])) == [9, 16, 25]
        assert gate.batches == [[3, 4, 5]]

    run(scenario())


def test_submit_nobody_else_coming_runs_at_once_however_long_a_batch_may_wait(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        async with started(lambda items: items, executor, wait_seconds=3600.0) as batcher:
            assert (await batcher.submit(1)).batch_size == 1

    run(scenario())


def test_batch_waits_for_those_who_are_coming_and_for_them_alone(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        gate = Gate()
        gate.open.set()
        async with started(gate, executor, size=10, wait_seconds=3600.0) as batcher:
            with batcher.coming():
                with batcher.coming():
                    first = await submitted(batcher, [1])
                    await asyncio.sleep(0.01)
                    assert batcher.depth == 1
                second = await submitted(batcher, [2])
                await asyncio.sleep(0.01)
                assert batcher.depth == 2
            assert await outcomes([*first, *second]) == [1, 4]
        assert gate.batches == [[1, 2]]

    run(scenario())


def test_batch_waits_no_longer_than_it_may_for_one_who_never_comes(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        async with started(lambda items: items, executor, wait_seconds=0.01) as batcher:
            with batcher.coming():
                assert (await batcher.submit(1)).batch_size == 1

    run(scenario())


def test_deadline_that_passes_in_the_queue_is_told_and_never_run(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor) as batcher:
            running = await submitted(batcher, [1])
            await gate.reached()
            now = asyncio.get_running_loop().time()
            late = asyncio.create_task(batcher.submit(2, deadline=now))
            patient = asyncio.create_task(batcher.submit(3, deadline=now + ANSWERED_SECONDS))
            await asyncio.sleep(0)
            gate.open.set()
            assert await outcomes([*running, late, patient]) == [1, RequestTimeoutError, 9]
        assert gate.batches == [[1], [3]]

    run(scenario())


def test_lost_turn_answers_its_callers_and_the_next_batch_runs(
    executor: ThreadPoolExecutor,
) -> None:
    lost = iter([True, False])

    @asynccontextmanager
    async def sometimes() -> AsyncIterator[Compute]:
        async def compute(work: Callable[[], Value]) -> Value:
            if next(lost):
                raise InferenceLostError("It hung.", retry_after_seconds=7)
            return await asyncio.get_running_loop().run_in_executor(executor, work)

        yield compute

    async def scenario() -> None:
        batcher: Batcher = DynamicBatcher(
            lambda items: items,
            sometimes,
            max_batch_size=2,
            max_batch_wait_seconds=0.0,
            max_queue_size=9,
        )
        batcher.start()
        tasks = await submitted(batcher, [1, 2, 3])
        assert await outcomes(tasks) == [InferenceLostError, InferenceLostError, 3]
        errors = [tasks[0].exception(), tasks[1].exception()]
        assert all(isinstance(each, InferenceLostError) for each in errors)
        assert errors[0] is not errors[1]
        assert {str(each) for each in errors} == {"It hung."}
        await batcher.stop(drain_seconds=ANSWERED_SECONDS)

    run(scenario())


def test_batcher_that_breaks_says_so_once(executor: ThreadPoolExecutor) -> None:
    executor.shutdown()
    said: list[str] = []

    async def scenario() -> None:
        batcher: Batcher = DynamicBatcher(
            lambda items: items,
            partial(turn, executor),
            max_batch_size=2,
            max_batch_wait_seconds=0.0,
            max_queue_size=9,
        )
        batcher.start(when_broken=said.append)
        assert await outcomes(await submitted(batcher, [1])) == [StoppingError]
        await asyncio.sleep(0)

    run(scenario())
    assert len(said) == 1
    assert "cannot schedule" in said[0]


def test_cancelled_caller_of_a_running_batch_leaves_the_others_answered(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor, size=2, wait_seconds=3600.0) as batcher:
            gone, staying = await submitted(batcher, [1, 2])
            await gate.reached()
            gone.cancel()
            gate.open.set()
            assert await outcomes([gone, staying]) == [asyncio.CancelledError, 4]

    run(scenario())


def test_stop_runs_what_waits_and_refuses_what_comes(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor, size=2, wait_seconds=3600.0) as batcher:
            tasks = await submitted(batcher, [1, 2, 3])
            await gate.reached()
            stopping = asyncio.create_task(batcher.stop(drain_seconds=ANSWERED_SECONDS))
            await asyncio.sleep(0)
            with pytest.raises(StoppingError):
                await batcher.submit(4)
            gate.open.set()
            assert await outcomes(tasks) == [1, 4, 9]
            await stopping
            assert not batcher.alive

    run(scenario())


def test_stop_out_of_time_answers_running_and_waiting_callers(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor, size=1) as batcher:
            tasks = await submitted(batcher, [1, 2, 3])
            await gate.reached()
            await batcher.stop(drain_seconds=0.0)
            assert await outcomes(tasks) == [StoppingError] * 3
            gate.open.set()

    run(scenario())


def test_stop_never_started_or_twice_returns(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        async with started(lambda items: items, executor) as batcher:
            await batcher.stop(drain_seconds=1.0)
        unused: Batcher = DynamicBatcher(
            lambda items: items,
            partial(turn, executor),
            max_batch_size=1,
            max_batch_wait_seconds=0.0,
            max_queue_size=1,
        )
        with pytest.raises(StoppingError):
            await unused.submit(1)
        await unused.stop(drain_seconds=1.0)

    run(scenario())
