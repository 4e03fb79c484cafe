"""Rates and quotas: never more than the limit, never fewer than promised, bounded memory."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from app.api.access import RateMiddleware
from app.api.uploads import BodyLimits, Refuse
from app.core.rates import Limits, RateLimiter

DAY = 86_400
MIDNIGHT = 20_000 * DAY


def test_take_minute_all_at_once_then_one_by_one() -> None:
    limiter = RateLimiter(10)
    limits = Limits(per_minute=6)
    now = MIDNIGHT + 1000.0
    left = [limiter.take("a", limits, now).allowances[0].remaining for _ in range(6)]
    assert left == [5, 4, 3, 2, 1, 0]
    refused = limiter.take("a", limits, now)
    assert not refused.allowed
    assert abs(refused.retry_seconds - 10) < 0.01
    assert abs(refused.allowances[0].reset_seconds - 60) < 0.01
    assert not limiter.take("a", limits, now + 9.9).allowed
    assert limiter.take("a", limits, now + 10).allowed
    assert not limiter.take("a", limits, now + 10).allowed
    assert limiter.take("a", limits, now + 70).allowances[0].remaining == 5


def test_take_refused_requests_cost_nothing() -> None:
    limiter = RateLimiter(10)
    limits = Limits(per_minute=1, per_day=5)
    assert limiter.take("a", limits, MIDNIGHT).allowed
    for second in range(1, 60):
        assert not limiter.take("a", limits, MIDNIGHT + second).allowed
    again = limiter.take("a", limits, MIDNIGHT + 60)
    assert again.allowed
    assert again.allowances[1].remaining == 3


def test_take_day_ends_at_midnight_utc() -> None:
    limiter = RateLimiter(10)
    limits = Limits(per_day=2)
    evening = MIDNIGHT + DAY - 100.0
    assert [limiter.take("a", limits, evening).allowed for _ in range(3)] == [True, True, False]
    refused = limiter.take("a", limits, evening + 40)
    assert refused.retry_seconds == 60
    assert refused.allowances[0].reset_seconds == 60
    assert limiter.take("a", limits, evening + 100).allowances[0].remaining == 1


def test_take_clients_do_not_touch_each_other() -> None:
    limiter = RateLimiter(10)
    limits = Limits(per_minute=1)
    assert limiter.take("a", limits, 0.0).allowed
    assert limiter.take("b", limits, 0.0).allowed
    assert not limiter.take("a", limits, 0.0).allowed


def test_take_without_limits_remembers_nobody() -> None:
    limiter = RateLimiter(10)
    for number in range(100):
        standing = limiter.take(str(number), Limits(), 0.0)
        assert standing.allowed
        assert standing.allowances == ()
    assert len(limiter) == 0


def test_take_more_clients_than_are_remembered_forgets_the_most_silent() -> None:
    limiter = RateLimiter(3)
    limits = Limits(per_minute=1)
    for name in ("a", "b", "c"):
        assert limiter.take(name, limits, 0.0).allowed
    assert not limiter.take("a", limits, 0.0).allowed  # heard of again: now b is the most silent
    assert limiter.take("d", limits, 0.0).allowed
    assert len(limiter) == 3
    assert not limiter.take("a", limits, 0.0).allowed
    assert limiter.take("b", limits, 0.0).allowed  # it was forgotten


def test_take_clock_set_back_locks_nobody_out_for_longer_than_a_minute() -> None:
    limiter = RateLimiter(10)
    limits = Limits(per_minute=2)
    limiter.take("a", limits, MIDNIGHT + DAY / 2)
    limiter.take("a", limits, MIDNIGHT + DAY / 2)
    assert limiter.take("a", limits, MIDNIGHT).retry_seconds <= 30
    assert limiter.take("a", limits, MIDNIGHT + 30.1).allowed


@given(
    pauses=st.lists(st.floats(0, 40, allow_nan=False), min_size=1, max_size=80),
    per_minute=st.integers(1, 30),
)
def test_take_never_more_than_the_bucket_and_what_flows_in(
    pauses: list[float], per_minute: int
) -> None:
    """In any span of s seconds at most q + q * s / 60; and whoever waits as told passes."""
    limiter = RateLimiter(10)
    limits = Limits(per_minute=per_minute)
    now = float(MIDNIGHT)
    passed: list[float] = []
    for pause in pauses:
        now += pause
        standing = limiter.take("a", limits, now)
        if standing.allowed:
            passed.append(now)
        else:
            now += standing.retry_seconds + 1e-3
            assert limiter.take("a", limits, now).allowed
            passed.append(now)
    for first, begin in enumerate(passed):
        for last, end in enumerate(passed[first:], first):
            most = per_minute + per_minute * (end - begin) / 60
            assert last - first + 1 <= most + 0.01


def test_rate_refused_microseconds_before_its_time_is_a_429_like_any_other() -> None:
    sent: list[Message] = []
    times = iter([1000.0, 1060.0 - 2.9e-5])

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    middleware = RateMiddleware(
        answer,
        limits=Limits(per_minute=1),
        refuse=Refuse(BodyLimits(max_bytes=1, idle_timeout_seconds=1, timeout_seconds=1)),
        clock=lambda: next(times),
    )
    scope: Scope = {"type": "http", "method": "POST", "path": "/caption", "headers": []}
    for _ in range(2):
        asyncio.run(middleware(dict(scope), receive, send))
    assert [each["status"] for each in sent if "status" in each] == [200, 429]
