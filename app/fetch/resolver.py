"""Looks host names up once, in threads that a name server's silence cannot exhaust or outlive.
Judges no address."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

from app.core.errors import TooManyFetchesError

__all__ = ["Resolve", "Resolver"]

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""From host and port to every address; OSError where there is none."""


class Resolver:
    """Asks the system, which also reads numbers for addresses: `0x7f.1`, `2130706433`.

    A lookup cannot be stopped once it has begun. So each has a daemon thread, which holds no exit
    up, and there are at most `max_lookups` of them, those that nobody waits for any more included.
    """

    def __init__(self, max_lookups: int) -> None:
        self._free = threading.BoundedSemaphore(max_lookups)

    async def __call__(self, host: str, port: int) -> list[str]:
        """Look a name up. Raises OSError, or TooManyFetchesError where all threads are taken."""
        if not self._free.acquire(blocking=False):
            raise TooManyFetchesError(
                "Too many host names are being looked up already. Try again in a few seconds."
            )
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def settle(addresses: list[str], error: OSError | None) -> None:
            if found.done():  # nobody waits any more
                return
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

        def look_up() -> None:
            addresses: list[str] = []
            failure: OSError | None = None
            try:
                addresses = _addresses(host, port)
            except OSError as error:
                failure = error
            except ValueError as error:  # a name that cannot be written for a name server
                failure = OSError(str(error))
            finally:
                self._free.release()
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, addresses, failure)

        try:
            threading.Thread(target=look_up, name="lookup", daemon=True).start()
        except RuntimeError as error:  # the system grants no thread
            self._free.release()
            raise OSError("no thread to look a name up") from error
        return await found


def _addresses(host: str, port: int) -> list[str]:
    answers = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    # A number behind an IPv6 address is the zone that it belongs to: it stays, to be refused.
    texts = [
        f"{place[0]}%{place[3]}" if len(place) == 4 and place[3] else str(place[0])
        for *_, place in answers
    ]
    return list(dict.fromkeys(texts))
