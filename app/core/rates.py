"""How many requests a client may send: a rate a minute and a quota a day. Knows no HTTP, no clock.

The minute is a leaky bucket (GCRA, the generic cell rate algorithm of ATM's traffic management): a
client that was away may send all of its requests at once, and gets them back one by one, evenly.
It needs one number a client. The day is counted from midnight to midnight, UTC.

All is in this process's memory: it starts anew with the process, and each replica counts apart.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["Allowance", "Limits", "RateLimiter", "Standing"]

MINUTE_SECONDS = 60
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may send; 0 is no limit."""

    per_minute: int = 0
    per_day: int = 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """How a client stands under one limit.

    reset_seconds: until it has all of `limit` again.
    """

    name: str
    limit: int
    window_seconds: int
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a request may pass, and how its client stands afterwards.

    retry_seconds: until one more request may pass; 0 where this one does.
    """

    allowed: bool
    allowances: tuple[Allowance, ...]
    retry_seconds: float = 0.0


@dataclass(slots=True)
class _Client:
    """full_at: when the bucket is full again, in seconds; day: the day that `today` counts."""

    full_at: float = 0.0
    day: int = 0
    today: int = 0


class RateLimiter:
    """Counts the requests of each client, of at most `max_clients`.

    Beyond, the client that has been silent longest is forgotten, and starts anew when it returns:
    memory stays bounded, and a client that keeps sending is never forgotten before those that
    don't.
    """

    def __init__(self, max_clients: int) -> None:
        self._max_clients = max_clients
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clients)

    def take(self, name: str, limits: Limits, now: float, count: int = 1) -> Standing:
        """Count so many requests of this client, if all may pass; else none is counted.

        now: seconds since 1970 in UTC.
        """
        if not limits.per_minute and not limits.per_day:
            return Standing(allowed=True, allowances=())
        client = self._client(name, now)
        waits = [_minute_wait(client, limits, now, count), _day_wait(client, limits, now, count)]
        allowed = max(waits) <= 0
        if allowed:
            _count(client, limits, now, count)
        return Standing(allowed, _allowances(client, limits, now), max(0.0, *waits))

    def _client(self, name: str, now: float) -> _Client:
        client = self._clients.setdefault(name, _Client())
        self._clients.move_to_end(name)
        if len(self._clients) > self._max_clients:
            self._clients.popitem(last=False)
        day = int(now // DAY_SECONDS)
        if client.day != day:
            client.day, client.today = day, 0
        # A clock that was set back by a day must not lock a client out for that day.
        client.full_at = min(client.full_at, now + MINUTE_SECONDS)
        return client


def _minute_wait(client: _Client, limits: Limits, now: float, count: int) -> float:
    """Say how long until the requests pass the minute's limit; at most 0 where they do now."""
    if not limits.per_minute:
        return 0.0
    all_seconds = count * MINUTE_SECONDS / limits.per_minute
    return max(client.full_at, now) + all_seconds - (now + MINUTE_SECONDS) - 1e-6


def _day_wait(client: _Client, limits: Limits, now: float, count: int) -> float:
    if not limits.per_day or client.today + count <= limits.per_day:
        return 0.0
    return _until_midnight(now)


def _count(client: _Client, limits: Limits, now: float, count: int) -> None:
    client.today += count
    if limits.per_minute:
        client.full_at = max(client.full_at, now) + count * MINUTE_SECONDS / limits.per_minute


def _allowances(client: _Client, limits: Limits, now: float) -> tuple[Allowance, ...]:
    found = []
    if limits.per_minute:
        until_full = max(0.0, client.full_at - now)
        left = math.floor((MINUTE_SECONDS - until_full) * limits.per_minute / MINUTE_SECONDS + 1e-6)
        found.append(
            Allowance("minute", limits.per_minute, MINUTE_SECONDS, max(0, left), until_full)
        )
    if limits.per_day:
        left = max(0, limits.per_day - client.today)
        found.append(Allowance("day", limits.per_day, DAY_SECONDS, left, _until_midnight(now)))
    return tuple(found)


def _until_midnight(now: float) -> float:
    return DAY_SECONDS - now % DAY_SECONDS
