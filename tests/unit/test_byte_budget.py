"""A budget of bytes: never overdrawn, given in the order of asking, and whole again in the end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.byte_budget import MOST_OVERTAKING, ByteBudget

LIMIT_BYTES = 10


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


async def take(budget: ByteBudget, order: list[str], name: str, count_bytes: int) -> None:
    async with budget.taking(count_bytes):
        order.append(name)


def test_budget_small_wish_overtakes_a_large_one_no_more_often_than_it_may() -> None:
    async def scenario() -> None:
        budget = ByteBudget(LIMIT_BYTES)
        order: list[str] = []
        many = MOST_OVERTAKING // 2 + 1
        small = [f"small {number}" for number in range(2 * many)]
        expected = [*small[:MOST_OVERTAKING], "large", *small[MOST_OVERTAKING:]]

        async with budget.taking(6):
            large = asyncio.create_task(take(budget, order, "large", 8))
            await asyncio.sleep(0)
            tasks = [asyncio.create_task(take(budget, order, name, 1)) for name in small]
            while len(order) < MOST_OVERTAKING:
                await asyncio.sleep(0)
            assert budget.waiting == 1 + len(small) - MOST_OVERTAKING
            assert not budget.take_now(1)
        await asyncio.gather(large, *tasks)
        assert order == expected

    run(scenario())


def test_budget_wish_for_more_than_there_is_raises_and_takes_nothing() -> None:
    async def scenario() -> None:
        budget = ByteBudget(LIMIT_BYTES)
        with pytest.raises(ValueError, match="11 bytes of 10"):
            async with budget.taking(LIMIT_BYTES + 1):
                pass
        async with budget.taking(LIMIT_BYTES):
            assert budget.used_bytes == LIMIT_BYTES

    run(scenario())


def test_budget_taken_now_only_where_it_is_there() -> None:
    async def scenario() -> None:
        budget = ByteBudget(LIMIT_BYTES)
        assert budget.take_now(6)
        assert not budget.take_now(5)

        async with budget.taking(2):
            assert not budget.take_now(3)
            assert budget.take_now(2)
        budget.give(6)
        assert budget.used_bytes == 2

    run(scenario())


_WISHES = st.lists(
    st.tuples(st.integers(0, LIMIT_BYTES), st.integers(0, 3), st.booleans()), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(_WISHES)
def test_budget_whoever_is_cancelled_is_never_overdrawn_and_serves_everyone_else(
    wishes: list[tuple[int, int, bool]],
) -> None:
    async def scenario() -> None:
        budget = ByteBudget(LIMIT_BYTES)
        held = 0

        async def take(count_bytes: int, turns: int) -> None:
            nonlocal held
            async with budget.taking(count_bytes):
                held += count_bytes
                try:
                    assert held <= budget.used_bytes <= LIMIT_BYTES
                    for _ in range(turns):
                        await asyncio.sleep(0)
                finally:
                    held -= count_bytes

        tasks = []
        for count_bytes, turns, is_cancelled in wishes:
            task = asyncio.create_task(take(count_bytes, turns))
            tasks.append(task)
            for _ in range(turns):
                await asyncio.sleep(0)
            if is_cancelled:
                task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for answer, (_, _, is_cancelled) in zip(answers, wishes, strict=True):
            assert answer is None or (is_cancelled and isinstance(answer, asyncio.CancelledError))
        assert (budget.used_bytes, budget.waiting) == (0, 0)

    run(scenario())
