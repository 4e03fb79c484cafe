"""The caption engine: proves each model with a canary image, and captions uploads in batches.

Knows no HTTP.

    bytes ──> CaptionerPool: the model ──> decode threads: decode, resize ──> DynamicBatcher
          ──> inference thread: BatchRunner ──> answer

One thread captions for all models, the inference thread; models are loaded in another one. Images
are decoded before they queue, so that a bad one is refused early and a queued one is small.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from time import perf_counter
from typing import Any, Self, TypeVar

from app.core.errors import ModelUnavailableError, NotReadyError, RequestTimeoutError, StoppingError
from app.core.metrics import Metrics
from app.engine.batch_runner import BatchRunner, CaptionJob
from app.engine.batcher import DynamicBatcher
from app.engine.canary import canary_image, check_canary
from app.engine.catalog import Catalog
from app.engine.overlay import draw_overlay
from app.engine.pool import CaptionerPool
from models.caption import Caption, Captioner, ModelInfo
from models.config import DecodingOptions
from models.errors import GlimpseError, UnknownModelError
from models.preprocessing import DecodeLimits, PreparedImage

__all__ = [
    "CaptionEngine",
    "Captioned",
    "EngineLimits",
    "EngineState",
    "ModelHandle",
    "ModelStatus",
]

_logger = logging.getLogger(__name__)
_CANARY_SIDE_PIXELS = 256

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How much an engine takes on.

    models_memory_bytes: what loaded models may take together.
    max_waiting_for_loads: how many requests may wait for models to load.
    image: the formats of an upload, and the bounds of its size in pixels.
    overlay_side_pixels: the longest side of an image in a drawing.
    """

    models_memory_bytes: int
    max_waiting_for_loads: int
    image: DecodeLimits
    decode_threads: int
    overlay_side_pixels: int
    max_batch_size: int
    max_batch_wait_seconds: float
    max_queue_size: int
    request_timeout_seconds: float


class EngineState(StrEnum):
    """The life of an engine, in order; `failed` may follow any of the first three."""

    loading = "loading"
    warming_up = "warming up"
    ready = "ready"
    failed = "failed"
    stopped = "stopped"


@dataclass(frozen=True, slots=True)
class ModelHandle:
    """A model that a request may use, as it was looked up.

    Holds no weights: `caption` loads the model if it is not in memory.
    """

    info: ModelInfo

    @property
    def name(self) -> str:
        """The model's name."""
        return self.info.name

    @property
    def decoding(self) -> DecodingOptions:
        """The options that the model was tuned for."""
        return self.info.config.decoding


@dataclass(frozen=True, slots=True)
class Captioned:
    """One answer: a caption, its image, its model, and where the time went, in seconds."""

    caption: Caption
    image: PreparedImage
    model: ModelInfo
    decode_seconds: float
    queue_seconds: float
    compute_seconds: float


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model that exists, in memory or not; `info` is None where it cannot be loaded."""

    name: str
    loaded: bool
    info: ModelInfo | None


class CaptionEngine:
    """Owns the pool of captioners, the threads that decode and infer, and the batcher."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        default_model: str,
        limits: EngineLimits,
        metrics: Metrics,
        prepare_thread: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a catalog, the limits, and the metrics to count in.

        prepare_thread: called once in each thread that computes with models.
        """
        self._catalog = catalog
        self._default_model = default_model
        self._metrics = metrics
        self._limits = limits
        self._inference = ThreadPoolExecutor(
            1, thread_name_prefix="inference", initializer=prepare_thread
        )
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="catalog")
        self._decoding = ThreadPoolExecutor(limits.decode_threads, thread_name_prefix="decode")
        self._runner = BatchRunner(metrics)
        self._batcher: DynamicBatcher[CaptionJob, Caption] = DynamicBatcher(
            self._runner.run,
            self._inference,
            max_batch_size=limits.max_batch_size,
            max_batch_wait_seconds=limits.max_batch_wait_seconds,
            max_queue_size=limits.max_queue_size,
        )
        self._pool = CaptionerPool(
            catalog,
            self._prove,
            default=default_model,
            limit_bytes=limits.models_memory_bytes,
            max_waiting=limits.max_waiting_for_loads,
            prepare_thread=prepare_thread,
            metrics=metrics,
        )
        self._state = EngineState.loading
        metrics.queue_depth.set_function(lambda: self._batcher.depth)
        metrics.ready.set_function(lambda: self.state is EngineState.ready)

    @property
    def state(self) -> EngineState:
        """Where the engine is in its life; `failed` if the batcher broke."""
        if self._state is EngineState.ready and not self._batcher.alive:
            return EngineState.failed
        return self._state

    @property
    def default_model(self) -> str:
        """The name of the model that answers if a request names none."""
        return self._default_model

    async def start(self) -> Self:
        """Load the default model and begin to run batches.

        Raises CheckpointError, ConfigError or UnknownModelError if it cannot be loaded.
        """
        try:
            await self._pool.start()
        except BaseException:
            self._state = EngineState.failed
            raise
        self._state = EngineState.warming_up
        self._batcher.start()
        return self

    async def warm_up(self) -> None:
        """Send the canary through the default model and become `ready`.

        Where anything goes wrong, log it and become `failed`.
        """
        started = perf_counter()
        try:
            model = ModelHandle(self._pool.loaded[self._default_model])
            answer = await self._answer(model, self._canary(), model.decoding)
            check_canary(answer.caption)
        except Exception:
            self._state = EngineState.failed
            _logger.critical(
                "the canary image failed: this replica will not become ready", exc_info=True
            )
            return
        self._state = EngineState.ready
        _logger.info(
            "ready",
            extra={
                "model": answer.model.name,
                "digest": answer.model.digest[:12],
                "canary_seconds": round(perf_counter() - started, 4),
                "canary_caption": answer.caption.best.text,
            },
        )

    async def stop(self, *, drain_seconds: float) -> None:
        """Answer what waits, refuse what comes, and release the threads, within `drain_seconds`."""
        self._pool.stop()
        await self._batcher.stop(drain_seconds=drain_seconds)
        self._state = EngineState.stopped
        self._reading.shutdown(wait=False, cancel_futures=True)
        self._inference.shutdown(wait=False, cancel_futures=True)
        self._decoding.shutdown(wait=False, cancel_futures=True)

    def check_ready(self) -> None:
        """Raise NotReadyError or StoppingError unless the engine is `ready`."""
        if self.state is EngineState.stopped:
            raise StoppingError()
        if self.state is EngineState.failed:
            raise NotReadyError(
                "The model does not work; the operator finds the reason in the service's log."
            )
        if self.state is not EngineState.ready:
            raise NotReadyError(f"The model is {self.state}. Try again in a few seconds.")

    async def models(self) -> list[ModelStatus]:
        """List every model, by name."""
        loaded = self._pool.loaded
        names = set(await self._read(self._catalog.names)) | loaded.keys()
        return [await self._status(name, loaded) for name in sorted(names)]

    async def model(self, name: str | None) -> ModelHandle:
        """Find the model that a request names, without loading it; None is the default one.

        Raises UnknownModelError, ModelUnavailableError, QueueFullError where too many wait for
        loads, and NotReadyError or StoppingError where the default model does not answer.
        """
        self.check_ready()
        name = self._default_model if name is None else name
        loaded = self._pool.loaded
        if name in loaded:
            return ModelHandle(loaded[name])
        names = await self._read(self._catalog.names)
        if name not in names:
            every = ", ".join(sorted(set(names) | loaded.keys()))
            raise UnknownModelError(f"There is no model named '{name}'. Models: {every}.")
        info = (await self._status(name, loaded)).info
        if info is None:
            raise ModelUnavailableError(
                f"The model '{name}' cannot be loaded; the operator finds the reason in the "
                "service's log. Other models are not touched by it."
            )
        self._pool.check_waiting()
        return ModelHandle(info)

    async def caption(self, model: ModelHandle, data: bytes, options: DecodingOptions) -> Captioned:
        """Caption one upload with a model, which is loaded where it is not in memory.

        Raises ImageError, ModelUnavailableError, and every BusyError there is. What else the
        captioner raises for this image comes out as it is; the others of its batch are unharmed.
        """
        self.check_ready()
        return await self._in_time(self._answer(model, data, options))

    async def overlay(self, data: bytes, caption: Caption, *, word: int | None) -> bytes:
        """Draw the attention maps over the upload: a PNG file.

        word: a position in the best caption, from 0; None for all words.
        Raises ImageError or RequestTimeoutError.
        """
        draw = partial(
            draw_overlay,
            data,
            caption,
            word=word,
            side_pixels=self._limits.overlay_side_pixels,
            limits=self._limits.image,
        )
        with self._metrics.render_seconds.time():
            return await self._in_time(self._in_decode_thread(draw))

    async def _status(self, name: str, loaded: Mapping[str, ModelInfo]) -> ModelStatus:
        if name in loaded:
            return ModelStatus(name, True, loaded[name])
        try:
            return ModelStatus(name, False, await self._read(partial(self._catalog.describe, name)))
        except GlimpseError:  # the catalog has logged it
            return ModelStatus(name, False, None)

    async def _read(self, work: Callable[[], Value]) -> Value:
        """Ask the catalog, which reads files, in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    def _canary(self) -> bytes:
        limits = self._limits.image
        return canary_image(max(_CANARY_SIDE_PIXELS, limits.min_side_pixels), limits.formats)

    async def _prove(self, captioner: Captioner) -> None:
        """Send the canary through a model that was just loaded; raise whatever goes wrong.

        It is a batch of its own, after the one that runs, and needs no room in the queue.
        """
        image = await self._in_decode_thread(
            partial(captioner.prepare, self._canary(), self._limits.image)
        )
        job = CaptionJob(captioner, image, captioner.info.config.decoding)
        (caption,) = await asyncio.get_running_loop().run_in_executor(
            self._inference, self._runner.run, [job]
        )
        if isinstance(caption, Exception):
            raise caption
        check_canary(caption)

    async def _in_time(self, answer: Coroutine[Any, Any, Value]) -> Value:
        seconds = self._limits.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"No answer within {seconds:g} seconds. Try again later, or send a smaller picture."
            ) from error

    async def _answer(self, model: ModelHandle, data: bytes, options: DecodingOptions) -> Captioned:
        self._batcher.check_room()  # before the work of decoding
        self._metrics.upload_bytes.observe(len(data))
        async with self._pool.use(model.name) as captioner:
            started = perf_counter()
            prepare = partial(captioner.prepare, data, self._limits.image)
            image = await self._in_decode_thread(prepare)
            decode_seconds = perf_counter() - started
            self._metrics.decode_seconds.observe(decode_seconds)
            done = await self._batcher.submit(CaptionJob(captioner, image, options))
        self._metrics.queue_seconds.observe(done.queue_seconds)
        return Captioned(
            caption=done.result,
            image=image,
            model=captioner.info,
            decode_seconds=decode_seconds,
            queue_seconds=done.queue_seconds,
            compute_seconds=done.compute_seconds,
        )

    async def _in_decode_thread(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._decoding, work)
