"""A budget of bytes that tasks share: whoever finds too few left waits. Knows no images.

A small wish may overtake a large one that waits for more than is left, but not for ever: one that
has been overtaken `MOST_OVERTAKING` times is the next to be served, and whoever comes after waits.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = ["MOST_OVERTAKING", "ByteBudget"]

MOST_OVERTAKING = 64
"""How often a wish that waits may be overtaken."""


@dataclass(slots=True, eq=False)
class _Wish:
    count_bytes: int
    turn: asyncio.Future[None]
    overtaken: int = 0


class ByteBudget:
    """Gives bytes in the order of asking as far as they go, on one event loop."""

    def __init__(self, limit_bytes: int) -> None:
        """Take what may be given in all."""
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._waiting: deque[_Wish] = deque()

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

        Raises ValueError for more than there are in all.
        """
        if count_bytes > self._limit_bytes:
            raise ValueError(f"{count_bytes} bytes of {self._limit_bytes}")
        await self._take(count_bytes)
        try:
            yield
        finally:
            self.give(count_bytes)

    def take_now(self, count_bytes: int) -> bool:
        """Take so many bytes, until `give`, if they are there and nobody has waited too long."""
        is_free = self._may_overtake(self._waiting) and self._fits(count_bytes)
        if is_free:
            self._used_bytes += count_bytes
            _overtake(self._waiting)
        return is_free

    def give(self, count_bytes: int) -> None:
        """Give back what was taken."""
        self._used_bytes -= count_bytes
        self._serve()

    async def _take(self, count_bytes: int) -> None:
        wish = _Wish(count_bytes, asyncio.get_running_loop().create_future())
        self._waiting.append(wish)
        self._serve()
        try:
            await wish.turn
        except asyncio.CancelledError:
            if not wish.turn.cancelled():  # it was given in the same moment
                self._used_bytes -= count_bytes
            elif wish in self._waiting:
                self._waiting.remove(wish)
            self._serve()
            raise

    def _fits(self, count_bytes: int) -> bool:
        return self._used_bytes + count_bytes <= self._limit_bytes

    def _may_overtake(self, ahead: Sequence[_Wish]) -> bool:
        """Tell whether those ahead, of whom the first was overtaken most, can be once more."""
        return not ahead or ahead[0].overtaken < MOST_OVERTAKING

    def _serve(self) -> None:
        ahead: list[_Wish] = []
        for wish in tuple(self._waiting):
            if not self._may_overtake(ahead):
                return
            if wish.turn.done():  # a cancelled one takes nothing
                self._waiting.remove(wish)
            elif self._fits(wish.count_bytes):
                self._waiting.remove(wish)
                self._used_bytes += wish.count_bytes
                wish.turn.set_result(None)
                _overtake(ahead)
            else:
                ahead.append(wish)


def _overtake(ahead: Iterable[_Wish]) -> None:
    for wish in ahead:
        wish.overtaken += 1
