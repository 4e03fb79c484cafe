"""The drain rate: what was measured, the latest weighing most, and whole seconds within bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.drain_rate import DrainRate

BATCHES = st.lists(st.tuples(st.integers(1, 1024), st.floats(0.0, 100.0)), max_size=20)


def test_drain_rate_steady_batches_give_their_rate() -> None:
    rate = DrainRate()
    for _ in range(50):
        rate.record(8, 0.4)
    assert rate.images_per_second == pytest.approx(20.0)
    assert rate.retry_after_seconds(100) == 5


def test_drain_rate_follows_a_machine_that_becomes_slow() -> None:
    rate = DrainRate()
    for _ in range(100):
        rate.record(8, 0.4)
    for _ in range(20):
        rate.record(8, 4.0)
    assert rate.images_per_second == pytest.approx(2.0, rel=0.05)


def test_drain_rate_before_the_first_batch_is_a_guess() -> None:
    assert DrainRate().images_per_second is None
    assert DrainRate().retry_after_seconds(1000) == 2


@given(batches=BATCHES, images=st.integers(0, 100_000))
def test_retry_after_is_whole_seconds_from_1_to_60_and_grows_with_the_queue(
    batches: list[tuple[int, float]], images: int
) -> None:
    rate = DrainRate()
    for size, seconds in batches:
        rate.record(size, seconds)
    after = rate.retry_after_seconds(images)
    assert 1 <= after <= 60
    assert rate.retry_after_seconds(2 * images) >= after


@given(batches=BATCHES.filter(lambda batches: any(seconds > 0.001 for _, seconds in batches)))
def test_drain_rate_lies_between_the_slowest_batch_and_the_fastest(
    batches: list[tuple[int, float]],
) -> None:
    rate = DrainRate()
    for size, seconds in batches:
        rate.record(size, seconds)
    rates = [size / seconds if seconds else math.inf for size, seconds in batches]
    measured = rate.images_per_second
    assert measured is not None
    assert measured >= min(rates) * 0.999
    assert measured <= max(rates) * 1.001
