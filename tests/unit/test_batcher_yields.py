"""What yields in the queue: after all others, in small batches, in no place of theirs, and not kept
waiting for ever."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.core.errors import QueueFullError, RequestTimeoutError, StoppingError
from app.engine import batcher as batcher_module
from tests.unit.test_batcher import Batcher, Gate, executor, outcomes, run, started, submitted

__all__ = ["executor"]  # the fixture of those tests


async def yielding(batcher: Batcher, items: range | list[int]) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(batcher.submit(item, yields=True)) for item in items]
    await asyncio.sleep(0)
    return tasks


def test_yielding_items_run_after_those_that_came_later(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor) as batcher:
            first = await submitted(batcher, [0])
            await gate.reached()
            background = await yielding(batcher, [1, 2])
            others = await submitted(batcher, [3, 4, 5, 6, 7])
            gate.open.set()
            assert await outcomes(others) == [9, 16, 25, 36, 49]
            assert await outcomes([*first, *background]) == [0, 1, 4]
        assert gate.batches == [[0], [3, 4, 5, 6], [7], [1, 2]]

    run(scenario())


def test_yielding_items_alone_run_in_small_batches(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        gate = Gate()
        gate.open.set()
        async with started(gate, executor, size=16) as batcher:
            background = await yielding(batcher, range(10))
            assert await outcomes(background) == [each * each for each in range(10)]
        assert [len(batch) for batch in gate.batches] == [4, 4, 2]

    run(scenario())


def test_yielding_items_take_no_place_in_the_queue(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor, size=1, queue=2) as batcher:
            running = await submitted(batcher, [0])
            await gate.reached()
            background = await yielding(batcher, range(1, 6))
            others = await submitted(batcher, [6, 7])
            assert batcher.depth == 2
            with pytest.raises(QueueFullError):
                await batcher.submit(8)
            gate.open.set()
            assert await outcomes([*running, *others, *background]) == [
                each * each for each in (0, 6, 7, 1, 2, 3, 4, 5)
            ]
        assert [batch[0] for batch in gate.batches[:3]] == [0, 6, 7]

    run(scenario())


def test_yielding_item_that_waited_long_goes_along_one_at_a_time(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batcher_module, "_LONGEST_YIELD_SECONDS", 0.0)

    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor) as batcher:
            running = await submitted(batcher, [0])
            await gate.reached()
            background = await yielding(batcher, [10, 11])
            others = await submitted(batcher, [1, 2, 3, 4, 5, 6])
            gate.open.set()
            await outcomes([*running, *background, *others])
        assert gate.batches == [[0], [10, 1, 2, 3], [11, 4, 5, 6]]

    run(scenario())


def test_yielding_item_is_answered_when_its_time_is_over_its_caller_goes_or_the_batcher_stops(
    executor: ThreadPoolExecutor,
) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor) as batcher:
            running = await submitted(batcher, [0])
            await gate.reached()
            now = asyncio.get_running_loop().time()
            late = asyncio.create_task(batcher.submit(1, deadline=now, yields=True))
            (gone, left) = await yielding(batcher, [2, 3])
            gone.cancel()
            stopping = asyncio.create_task(batcher.stop(drain_seconds=10.0))
            await asyncio.sleep(0)
            with pytest.raises(StoppingError):
                await batcher.submit(4, yields=True)
            gate.open.set()
            await stopping
            assert await outcomes([late, left]) == [StoppingError, StoppingError]
            assert await outcomes(running) == [0]
        assert gate.batches == [[0]]

    run(scenario())


def test_yielding_item_whose_time_is_over_is_not_run(executor: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with started(gate, executor) as batcher:
            running = await submitted(batcher, [0])
            await gate.reached()
            now = asyncio.get_running_loop().time()
            late = asyncio.create_task(batcher.submit(1, deadline=now, yields=True))
            await asyncio.sleep(0)
            gate.open.set()
            assert await outcomes([late]) == [RequestTimeoutError]
            await outcomes(running)
        assert gate.batches == [[0]]

    run(scenario())
