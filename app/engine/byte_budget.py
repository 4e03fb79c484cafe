"""A budget of bytes that tasks share: whoever finds too few left waits. Knows no images."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["ByteBudget"]


class ByteBudget:
    """Gives bytes to whoever came first, on one event loop."""

    def __init__(self, limit_bytes: int) -> None:
        """Take what may be given in all."""
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used_bytes(self) -> int:
        """What is given now."""
        return self._used_bytes

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def taking(self, count_bytes: int) -> AsyncIterator[None]:
        """Wait for so many bytes, and have them until the end of the block.

        A small wish waits behind a large one that came before it, so that large ones get their
        turn. Raises ValueError for more than there are in all.
        """
        if count_bytes > self._limit_bytes:
            raise ValueError(f"{count_bytes} bytes of {self._limit_bytes}")
        await self._take(count_bytes)
        try:
            yield
        finally:
            self.give(count_bytes)

    def take_now(self, count_bytes: int) -> bool:
        """Take so many bytes, until `give`, if nobody has to wait for it."""
        is_free = not self._waiting and self._used_bytes + count_bytes <= self._limit_bytes
        if is_free:
            self._used_bytes += count_bytes
        return is_free

    def give(self, count_bytes: int) -> None:
        """Give back what was taken."""
        self._used_bytes -= count_bytes
        self._serve()

    async def _take(self, count_bytes: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wish = (count_bytes, turn)
        self._waiting.append(wish)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given in the same moment
                self._used_bytes -= count_bytes
            elif wish in self._waiting:
                self._waiting.remove(wish)
            self._serve()
            raise

    def _serve(self) -> None:
        while self._waiting:
            count_bytes, turn = self._waiting[0]
            if self._used_bytes + count_bytes > self._limit_bytes:
                return
            self._waiting.popleft()
            if not turn.done():  # a cancelled one takes nothing
                self._used_bytes += count_bytes
                turn.set_result(None)
