"""The loop over photos on this machine: so many at a time that decoding, encoding and searching go
on side by side and batches are full. Knows no command line.

Rows are written in the order of the photos, each as soon as those before it are there. What a kill
interrupts is not in the output, and is done by the next run.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.bulk.mapper import Outcome, PhotoMapper
from app.bulk.reader import Photo
from app.bulk.rows import is_refusal
from app.core.settings import Settings

__all__ = ["BulkCounts", "count_in_flight", "run_photos"]

_BATCHES_IN_FLIGHT = 3
# One slow photo holds back so many behind it at most; each keeps its pixels, about 250 kB.
_MAX_WAITING_OUTCOMES = 200


@dataclass(slots=True)
class BulkCounts:
    """What came of a run.

    failed: photos at fault. undone: photos that were not captioned through no fault of theirs.
    not_embedded: captioned, but the caption could not be put into the file.
    """

    captioned: int = 0
    failed: int = 0
    undone: int = 0
    not_embedded: int = 0

    @property
    def all_well(self) -> bool:
        """Whether every photo was captioned, and its file written where that was asked for."""
        return not (self.failed or self.undone or self.not_embedded)

    @property
    def photos(self) -> int:
        """How many photos were looked at."""
        return self.captioned + self.failed + self.undone

    def add(self, other: "BulkCounts") -> None:
        """Take in what came of a part of the run."""
        self.captioned += other.captioned
        self.failed += other.failed
        self.undone += other.undone
        self.not_embedded += other.not_embedded

    def count(self, outcome: Outcome) -> None:
        """Count one outcome."""
        if outcome.answer is not None:
            self.captioned += 1
            self.not_embedded += is_refusal(outcome.xmp)
        elif outcome.is_final:
            self.failed += 1
        else:
            self.undone += 1


def count_in_flight(settings: Settings) -> int:
    """Tell how many photos to work at together: batches are full while the next are decoded."""
    return min(_BATCHES_IN_FLIGHT * settings.max_batch_size, settings.max_queue_size)


async def run_photos(
    photos: Iterable[Photo],
    mapper: PhotoMapper,
    settle: Callable[[Outcome], None],
    *,
    in_flight: int,
) -> BulkCounts:
    """Map photos, `in_flight` at a time, and hand each outcome to `settle`, in order.

    What `settle` raises, such as BulkOutputError, ends the run. Raises InferenceLostError where the
    engine has given up; outcomes that were complete before it have been settled.
    """
    counts = BulkCounts()
    places = asyncio.Semaphore(in_flight)
    waiting: deque[asyncio.Task[Outcome]] = deque()

    async def settle_first() -> None:
        outcome = await waiting[0]
        waiting.popleft()
        counts.count(outcome)
        settle(outcome)

    try:
        for photo in photos:
            await places.acquire()
            task = asyncio.create_task(mapper.map(photo))
            task.add_done_callback(lambda _: places.release())
            waiting.append(task)
            while waiting and (waiting[0].done() or len(waiting) > _MAX_WAITING_OUTCOMES):
                await settle_first()
        while waiting:
            await settle_first()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return counts
