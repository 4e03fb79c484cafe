"""How often a call is tried, when again, and until when. Pure: sends nothing and waits for nothing;
the clock and the chance are given."""

import email.utils
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

from glimpse_client.errors import GlimpseError, ProblemError, TimedOutError

__all__ = ["Attempts", "parse_retry_after"]

_LEAST_WAIT_SECONDS = 0.1
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 8.0
_SPREAD = 0.2  # of a wait that the server named: clients refused together do not come together


class Attempts:
    """The attempts of one call: all of them, and the waits between them, within one time."""

    def __init__(
        self,
        *,
        timeout_seconds: float,
        retries: int,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Take the limits.

        retries: how many attempts there may be beside the first.
        chance: gives numbers from 0 to 1, evenly.
        Raises ValueError.
        """
        if not timeout_seconds > 0:
            raise ValueError(f"timeout_seconds must be above 0, but is {timeout_seconds}")
        if retries < 0:
            raise ValueError(f"retries must be 0 or more, but is {retries}")
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._retried = 0
        self._clock = clock
        self._chance = chance
        self._end = clock() + timeout_seconds

    def seconds_left(self) -> float:
        """Say how long the call may still take; above 0. Raises TimedOutError where it is over."""
        left = self._end - self._clock()
        if left <= 0:
            raise self.timed_out()
        return left

    def timed_out(self) -> TimedOutError:
        """Make the error of a call whose time is over."""
        return TimedOutError(f"No answer came within {self._timeout_seconds:g} seconds.")

    def wait_after(self, error: GlimpseError) -> float:
        """Say how long to wait before the next attempt, in seconds.

        Raises the error itself where no attempt could succeed, where there are no more of them,
        or where the wait alone would outlast the call's time; then there is no wait at all.
        """
        left = self._end - self._clock()
        wait = self._wait_seconds(error)
        is_too_late = wait >= left
        if is_too_late and isinstance(error, ProblemError) and error.slug == "timed-out":
            raise self.timed_out() from error
        if not error.is_temporary or self._retried == self._retries or is_too_late:
            raise error
        self._retried += 1
        return wait

    def _wait_seconds(self, error: GlimpseError) -> float:
        """At least as long as the server said; else longer and longer, half of it by chance."""
        if error.retry_after_seconds is not None:
            named = max(error.retry_after_seconds, _LEAST_WAIT_SECONDS)
            return named * (1 + _SPREAD * self._chance())
        longest = min(_FIRST_WAIT_SECONDS * 2.0**self._retried, _LONGEST_WAIT_SECONDS)
        return longest * (0.5 + 0.5 * self._chance())


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Read the header `Retry-After`, seconds or a date; None where there is none that is readable.

    now: a time with its zone; left out, this moment.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
