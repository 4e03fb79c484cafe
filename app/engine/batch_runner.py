"""Captions a batch of jobs: one forward pass for each model and set of options among them.

A poisoned image fails alone. Knows no threads, no queue and no HTTP.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

from app.core.logging import request_id_context
from app.core.tracing import Trace, current_trace, trace_batch
from models.caption import Caption, Captioner
from models.config import DecodingOptions
from models.preprocessing import PreparedImage

__all__ = ["BatchMetrics", "BatchRunner", "CaptionJob"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaptionJob:
    """One image to caption: by whom, and how; and for which request, for the log and the trace."""

    captioner: Captioner
    image: PreparedImage
    options: DecodingOptions
    request_id: str | None = field(default_factory=request_id_context.get, compare=False)
    trace: Trace | None = field(default_factory=current_trace, compare=False)


class BatchMetrics(Protocol):
    """Counts what a BatchRunner does."""

    def batch_begins(self, size: int) -> None:
        """A batch of `size` jobs begins."""

    def batch_ran(self, seconds: float) -> None:
        """The batch took `seconds`, its retries included."""

    def group_retried(self) -> None:
        """Images failed together and are tried one at a time."""

    def item_failed(self) -> None:
        """An image could not be captioned."""


class BatchRunner:
    """Runs batches of jobs. Called from one thread at a time, as captioners are."""

    def __init__(self, metrics: BatchMetrics) -> None:
        self._metrics = metrics

    def run(self, jobs: Sequence[CaptionJob]) -> list[Caption | Exception]:
        """Caption every job: its caption, or what its captioner raised for it, in order."""
        with trace_batch((job.trace for job in jobs), len(jobs)):
            return self._run(jobs)

    def _run(self, jobs: Sequence[CaptionJob]) -> list[Caption | Exception]:
        self._metrics.batch_begins(len(jobs))
        started = perf_counter()
        results: dict[int, Caption | Exception] = {}
        for (captioner, options), positions in _group(jobs).items():
            images = [jobs[position].image for position in positions]
            with _logged_for(jobs[position].request_id for position in positions):
                captions = self._caption(captioner, images, options)
            results.update(zip(positions, captions, strict=True))
        self._metrics.batch_ran(perf_counter() - started)
        return [results[position] for position in range(len(jobs))]

    def _caption(
        self, captioner: Captioner, images: list[PreparedImage], options: DecodingOptions
    ) -> list[Caption | Exception]:
        """Caption images together; where that fails, one at a time."""
        try:
            return list(_caption_all(captioner, images, options))
        except Exception as error:
            if len(images) == 1:
                self._metrics.item_failed()
                return [error]
            self._metrics.group_retried()
            _logger.warning(
                "a batch of %d failed, trying one image at a time", len(images), exc_info=True
            )
            return [self._caption(captioner, [image], options)[0] for image in images]


@contextmanager
def _logged_for(request_ids: Iterable[str | None]) -> Iterator[None]:
    """Put the ids of a batch's requests, joined by commas, into every line logged in the block."""
    known = [request_id for request_id in request_ids if request_id is not None]
    token = request_id_context.set(",".join(known) or None)
    try:
        yield
    finally:
        request_id_context.reset(token)


def _group(jobs: Sequence[CaptionJob]) -> dict[tuple[Captioner, DecodingOptions], list[int]]:
    """Group the positions of jobs that one forward pass can answer, in order of each first."""
    groups: dict[tuple[Captioner, DecodingOptions], list[int]] = {}
    for position, job in enumerate(jobs):
        groups.setdefault((job.captioner, job.options), []).append(position)
    return groups


def _caption_all(
    captioner: Captioner, images: list[PreparedImage], options: DecodingOptions
) -> list[Caption]:
    """Caption images together.

    Raises what the captioner raises, and RuntimeError where it gives too few captions or too many.
    """
    captions = captioner.caption(images, options)
    if len(captions) != len(images):
        raise RuntimeError(f"the captioner gave {len(captions)} captions for {len(images)} images")
    return captions
