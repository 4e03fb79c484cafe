"""Keeps jobs and has their images captioned, one owner after another, without an end.

Knows no HTTP and no engine: how an image is captioned is given.

    add ──> JobDatabase ──> claim ──> caption ──> finish ──> JobDatabase ──> find, outcomes

Every image comes to an outcome on every path:

    it is captioned, or is at fault     its outcome
    the service is busy                 it waits again, and its try does not count
    its decoder or its batch is lost    it waits again, and is tried alone; three tries are the most
    the process is stopped              it waits again, for the next process
    the process is killed               the same, and its try counts
    its job is canceled                 none
    the disk is full                    its outcome is written as soon as that is possible
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.core.errors import (
    BusyError,
    DecoderLostError,
    InferenceLostError,
    JobsUnavailableError,
    StoppingError,
)
from app.core.logging import request_id_context
from app.core.metrics import Metrics
from app.jobs.database import JobDatabase
from app.jobs.records import Claim, Done, Job, JobLimits, JobState, NewJob, Outcome

__all__ = ["JobKeeper"]

_logger = logging.getLogger(__name__)
_AT_A_TIME = 8
_LONGEST_PAUSE_SECONDS = 5.0
_SECONDS_BETWEEN_LOOKS = 60.0
_COUNTS = (InferenceLostError, DecoderLostError)

Value = TypeVar("Value")


class JobKeeper:
    """Owns the database, its thread, and the images that are being captioned. On one event loop."""

    def __init__(
        self,
        folder: Path,
        limits: JobLimits,
        *,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the folder and the limits; nothing is opened.

        clock: seconds since 1970 in UTC.
        """
        self._folder = folder
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        self._database: JobDatabase | None = None
        self._running: dict[asyncio.Task[None], Claim] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pause_until = 0.0

    async def open(self) -> None:
        """Open the database. Raises SettingsError where it cannot be used."""
        opening = partial(JobDatabase, self._folder, self._limits)
        self._database = await asyncio.get_running_loop().run_in_executor(self._thread, opening)
        await self._count()

    def start(self, caption: Callable[[Claim], Awaitable[Outcome]]) -> None:
        """Begin to caption what waits, once the database is open.

        caption: gives what an image came to, or raises BusyError where it should be tried again.
        """
        running = self._run(caption)
        self._task = asyncio.get_running_loop().create_task(running, name="jobs")
        self._task.add_done_callback(_report)

    async def stop(self) -> None:
        """Give back what is being captioned, for the next process, and close the database."""
        tasks = [*self._running, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._database is not None:
            with suppress(JobsUnavailableError):
                await self._call(JobDatabase.close)
            self._database = None
        self._thread.shutdown(wait=False)

    async def add(self, job: NewJob) -> Job:
        """Keep a job. When this returns, it outlives a kill.

        Raises JobsFullError or JobsUnavailableError.
        """
        now = self._clock()
        added = await self._call(lambda data: data.add(job, now))
        await self._count()
        self._changed.set()
        _logger.info("job %s: accepted", added.id, extra={"images": added.images})
        return added

    async def find(self, job_id: str, owner: str) -> Job | None:
        """Find a job of this owner; None where it has none of that id."""
        return await self._call(lambda data: data.find(job_id, owner))

    async def outcomes(self, job_id: str) -> list[Done]:
        """List what a job's images came to so far, in their order."""
        return await self._call(lambda data: data.outcomes(job_id))

    async def cancel(self, job_id: str, owner: str) -> Job | None:
        """Cancel an active job; forget an ended one. Gives it as it was; None where there is none.

        When this returns, none of its images is on the disk or in a queue any more.
        """
        now = self._clock()
        job = await self._call(lambda data: data.cancel(job_id, owner, now))
        if job is not None:
            tasks = [task for task, claim in self._running.items() if claim.job_id == job_id]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._count()
        if job is not None and job.state is JobState.active:
            _logger.info("job %s: canceled", job_id)
        return job

    async def _call(self, work: Callable[[JobDatabase], Value]) -> Value:
        """Ask the database, in its thread. Raises JobsUnavailableError where it fails."""
        database = self._database
        if database is None:
            raise StoppingError()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, database)
        except sqlite3.Error as error:
            _logger.error("the jobs' database failed: %s", error)
            raise JobsUnavailableError(
                "Jobs cannot be read or written now; the operator finds the reason in the "
                "service's log. Try again later."
            ) from error

    async def _count(self) -> None:
        images, size_bytes = await self._call(JobDatabase.waiting)
        self._metrics.job_images_waiting.set(images)
        self._metrics.job_waiting_bytes.set(size_bytes)
        self._metrics.jobs.set(await self._call(JobDatabase.jobs))

    async def _run(self, caption: Callable[[Claim], Awaitable[Outcome]]) -> None:
        owner = ""
        next_look = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if loop.time() >= next_look:
                    next_look = loop.time() + _SECONDS_BETWEEN_LOOKS
                    await self._forget_old()
                self._changed.clear()
                found = await self._claim(owner)
            except JobsUnavailableError:
                await asyncio.sleep(_LONGEST_PAUSE_SECONDS)
                continue
            if found is not None:
                owner, claim = found
                task = loop.create_task(self._settle(claim, caption), name=f"job {claim.job_id}")
                self._running[task] = claim
                task.add_done_callback(self._forget_task)
                if claim.tries > 1:  # perhaps it ends the process: it is tried alone
                    await asyncio.wait([task])
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._next_wake(next_look)):
                    await self._changed.wait()

    async def _claim(self, owner: str) -> tuple[str, Claim] | None:
        """Take an image if there is a place for it now."""
        is_paused = asyncio.get_running_loop().time() < self._pause_until
        if len(self._running) >= _AT_A_TIME or is_paused:
            return None
        alone = not self._running
        return await self._call(lambda data: data.claim(owner, alone=alone))

    def _next_wake(self, next_look: float) -> float:
        now = asyncio.get_running_loop().time()
        return min(next_look, self._pause_until) if self._pause_until > now else next_look

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("an image of a job was lost until the next start", exc_info=error)

    async def _settle(self, claim: Claim, caption: Callable[[Claim], Awaitable[Outcome]]) -> None:
        """Have an image captioned, and write what it came to, or that it waits again."""
        request_id_context.set(claim.request_id)  # of this task alone
        try:
            outcome = await caption(claim)
        except BusyError as error:
            pause_seconds = min(error.retry_after_seconds, _LONGEST_PAUSE_SECONDS)
            self._pause_until = asyncio.get_running_loop().time() + pause_seconds
            counts = isinstance(error, _COUNTS)
            await self._persist(lambda data: data.release(claim, counts=counts))
            return
        now = self._clock()
        is_kept = await self._persist(lambda data: data.finish(claim, outcome, now))
        if is_kept:
            self._metrics.job_images.labels("captioned" if outcome.is_caption else "failed").inc()
        with suppress(JobsUnavailableError):
            await self._count()

    async def _persist(self, work: Callable[[JobDatabase], Value]) -> Value:
        """Write, as soon as the disk lets it be written."""
        while True:
            try:
                return await self._call(work)
            except JobsUnavailableError:
                await asyncio.sleep(_LONGEST_PAUSE_SECONDS)

    async def _forget_old(self) -> None:
        now = self._clock()
        forgotten = await self._call(lambda data: data.forget_old(now))
        if forgotten:
            _logger.info("forgot %d old jobs", forgotten)
            await self._count()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.critical("jobs are captioned no more: restart the service", exc_info=error)
