"""The captioners in memory: loaded at first use, unloaded for others when least recently used.

Knows no HTTP.

    use(name) ──> in memory ─────────────────────────────────────────────────────> captioner
              └─> not yet ──> one load for all: make room ──> load thread ──> prove ──> captioner

A load has a thread of its own, so that the inference thread goes on with the other models' images;
it computes alone there, without threads that help it. The proof, one image of ours, passes through
the inference thread. Loads run one after another, so that what they take in memory is known.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from math import ceil
from time import perf_counter
from typing import Any, TypeVar

from app.core.errors import (
    CanaryError,
    DecoderLostError,
    InferenceLostError,
    ModelsMemoryFullError,
    ModelUnavailableError,
    QueueFullError,
    ServiceError,
    StoppingError,
)
from app.core.metrics import Metrics
from app.engine.catalog import Catalog
from app.engine.compute_thread import ComputeThread, ThreadDiedError
from models.caption import Captioner, ModelInfo
from models.errors import GlimpseError
from models.memory import total_bytes

__all__ = ["CaptionerPool"]

_logger = logging.getLogger(__name__)

Value = TypeVar("Value")


class CaptionerPool:
    """Holds the default model for good, and others within a limit of bytes, on one event loop."""

    def __init__(
        self,
        catalog: Catalog,
        prove: Callable[[Captioner], Awaitable[None]],
        *,
        default: str,
        limit_bytes: int,
        max_waiting: int,
        prepare_thread: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        """Take a catalog and the limits.

        prove: raises unless a model that was just loaded works.
        default: the model that is never unloaded.
        limit_bytes: what loaded models may take together.
        max_waiting: how many requests may wait for loads at a time.
        prepare_thread: called once in the load thread.
        """
        self._catalog = catalog
        self._prove = prove
        self._default = default
        self._limit_bytes = limit_bytes
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._prepare_thread = prepare_thread
        self._thread: ComputeThread | None = None
        self._running: Future[Any] | None = None
        self._turn = asyncio.Lock()
        self._captioners: dict[str, Captioner] = {}  # least recently used first
        self._users: Counter[str] = Counter()  # requests that use a model or wait for it
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._waiting = 0
        self._load_seconds = 2.0  # of the latest load
        self._stopping = False
        metrics.models_memory_bytes.set_function(lambda: _bytes(self.loaded.values()))

    @property
    def loaded(self) -> dict[str, ModelInfo]:
        """The models in memory."""
        return {name: captioner.info for name, captioner in self._captioners.items()}

    async def start(self) -> None:
        """Load the default model, however large, without proving it. Raises what loading raises."""
        started = perf_counter()
        self._add(self._default, await self._read(self._default), started)

    def stop(self) -> None:
        """Load nothing more, and tell whoever waits for a load."""
        self._stopping = True
        for task in self._loads.values():
            task.cancel()
        if self._thread is not None:
            self._thread.stop()

    @property
    def has_left_threads_behind(self) -> bool:
        """Whether a load still runs: it cannot be ended from outside."""
        return self._running is not None and not self._running.done()

    def check_waiting(self) -> None:
        """Raise QueueFullError if no more requests may wait for a load now."""
        if self._waiting >= self._max_waiting:
            raise QueueFullError(
                f"{self._waiting} pictures wait for models to load already. Try again in a few "
                "seconds.",
                retry_after_seconds=min(ceil(self._load_seconds * max(len(self._loads), 1)), 60),
            )

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Captioner]:
        """Give the model of that name, loaded if need be, and keep it until the end of the block.

        Raises ModelUnavailableError, ModelsMemoryFullError, QueueFullError or StoppingError. A load
        goes on even if the one who waits for it goes away.
        """
        self._users[name] += 1
        try:
            if name not in self._captioners:
                await self._load_once(name)
            yield self._captioners[name]
        finally:
            self._users[name] -= 1
            if name in self._captioners:
                self._captioners[name] = self._captioners.pop(name)  # the most recently used

    async def _load_once(self, name: str) -> None:
        if self._stopping:
            raise StoppingError()
        self.check_waiting()
        task = self._loads.get(name)
        if task is None:
            task = self._loads[name] = asyncio.get_running_loop().create_task(
                self._load(name), name=f"load {name}"
            )
            task.add_done_callback(partial(self._forget_load, name))
        self._waiting += 1
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise StoppingError() from None
            raise
        finally:
            self._waiting -= 1

    def _forget_load(self, name: str, task: asyncio.Task[None]) -> None:
        del self._loads[name]
        if not task.cancelled():
            task.exception()  # seen, even if nobody waits for it any more

    async def _load(self, name: str) -> None:
        """Make room for a model, load it and prove it; only then can it be used."""
        async with self._turn:
            started = perf_counter()
            try:
                self._make_room(await self._in_thread(partial(self._catalog.describe, name)))
                captioner = await self._read_and_prove(name)
            except (ModelsMemoryFullError, ModelUnavailableError):
                self._metrics.model_loads.labels(name, "no room").inc()
                raise
            except (DecoderLostError, StoppingError):  # nothing is known of the model
                self._metrics.model_loads.labels(name, "failed").inc()
                _logger.warning("the model %s could not be proved", name, exc_info=True)
                raise
            except Exception as error:
                self._metrics.model_loads.labels(name, "failed").inc()
                _logger.exception("the model %s could not be loaded", name)
                raise ModelUnavailableError(
                    f"The model '{name}' does not work; the operator finds the reason in the "
                    "service's log. Other models are not touched by it."
                ) from error
            self._add(name, captioner, started)

    async def _read_and_prove(self, name: str) -> Captioner:
        """Load a model, and prove that it works.

        One whose files are at fault is rejected: it is not read again until they change.
        """
        try:
            captioner = await self._read(name)
            await self._prove(captioner)
        except (GlimpseError, CanaryError, InferenceLostError) as error:
            # What the system refuses now, it may grant the next time.
            if not isinstance(error.__cause__, OSError):
                self._catalog.reject(name, str(error))
            raise
        return captioner

    async def _read(self, name: str) -> Captioner:
        return await self._in_thread(partial(self._catalog.load, name))

    async def _in_thread(self, work: Callable[[], Value]) -> Value:
        """Run work in the load thread; in a new one where the last work ended it."""
        if self._thread is None:
            thread = ComputeThread("load")
            await asyncio.wrap_future(thread.submit(self._prepare_thread))
            self._thread = thread
        self._running = self._thread.submit(work)
        try:
            return await asyncio.wrap_future(self._running)
        except ThreadDiedError:
            self._thread = None
            raise

    def _make_room(self, coming: ModelInfo) -> None:
        """Unload models that nobody uses, the least recently used first, until the limit holds.

        Raises ModelUnavailableError or ModelsMemoryFullError, and unloads nothing, where it cannot.
        """
        kept = self.loaded
        unused = [name for name in kept if name != self._default and not self._users[name]]
        while _bytes([coming, *kept.values()]) > self._limit_bytes:
            if not unused:
                raise self._no_room(coming)
            del kept[unused.pop(0)]
        for name in self._captioners.keys() - kept.keys():
            self._remove(name)

    def _no_room(self, coming: ModelInfo) -> ServiceError:
        """Tell a model that is too large for the limit from one that only has to wait."""
        least_bytes = _bytes([coming, self._captioners[self._default].info])
        if least_bytes > self._limit_bytes:
            return ModelUnavailableError(
                f"With the model '{coming.name}' this server would need {_megabytes(least_bytes)} "
                f"for models, and it may take {_megabytes(self._limit_bytes)}. Choose another "
                "model."
            )
        return ModelsMemoryFullError(
            f"There is no memory for the model '{coming.name}' while others are in use. Try again "
            "in a few seconds."
        )

    def _add(self, name: str, captioner: Captioner, started: float) -> None:
        seconds = perf_counter() - started
        self._load_seconds = max(seconds, 0.001)
        self._captioners[name] = captioner
        self._metrics.model.labels(name, captioner.info.digest).set(1)
        self._metrics.model_loads.labels(name, "loaded").inc()
        self._metrics.model_load_seconds.observe(seconds)
        extra = {
            "model": name,
            "load_seconds": round(seconds, 4),
            "models_memory_bytes": _bytes(self.loaded.values()),
        }
        _logger.info("loaded a model", extra=extra)

    def _remove(self, name: str) -> None:
        info = self._captioners.pop(name).info
        self._metrics.model.remove(name, info.digest)
        self._metrics.model_unloads.labels(name).inc()
        _logger.info(
            "unloaded a model",
            extra={"model": name, "models_memory_bytes": _bytes(self.loaded.values())},
        )


def _bytes(models: Iterable[ModelInfo]) -> int:
    return total_bytes(model.memory for model in models)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
