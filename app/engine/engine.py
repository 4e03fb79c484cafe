"""The caption engine: proves each model with a canary image, and captions uploads in batches.

Knows no HTTP.

    bytes ──> CaptionerPool: the model ──> DecodePool: decode, resize ──> DynamicBatcher
          ──> inference thread: BatchRunner ──> answer

One thread captions for all models, the inference thread, which `InferenceSupervisor` watches;
models are loaded in another one. Images are decoded before they queue, so that a bad one is refused
early and a queued one is small; and in processes, so that one can be given up, and harms no other.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Self, TypeVar

from app.core.errors import (
    BusyError,
    InferenceLostError,
    RequestTimeoutError,
    ServiceError,
)
from app.core.metrics import Metrics
from app.core.tracing import past_stage, stage
from app.engine.batch_runner import BatchRunner, CaptionJob
from app.engine.batcher import Completed, DynamicBatcher
from app.engine.canary import canary_image, check_canary
from app.engine.catalog import Catalog
from app.engine.decode_pool import DecodePool
from app.engine.directory import ModelDirectory
from app.engine.heap import trim_heap
from app.engine.overlay import draw_overlay
from app.engine.pool import CaptionerPool
from app.engine.prover import Prover
from app.engine.records import Captioned, ModelHandle, ModelStatus
from app.engine.supervisor import EngineState, InferenceSupervisor
from models.caption import Caption, Captioner
from models.config import DecodingOptions
from models.errors import GlimpseError
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
_TRIM_SECONDS = 20.0
# A free machine needs a fraction of it, the first time too.
_SLOW_CANARY_SECONDS = 2.0
# Of one of several, whose turn came after the end.
_TURN_TOO_LATE = (
    "The request's time was over before this picture's turn came. Send fewer at a time, or allow "
    "them more time."
)
_NOT_ANSWERED = (
    "No answer within {seconds:.3g} seconds. Try again later, or send a smaller picture."
)
_NOT_LOOKED_UP = (
    "The model was not looked up within {seconds:.3g} seconds. Try again later, or allow it more "
    "time."
)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How much an engine takes on.

    models_memory_bytes: what loaded models may take together.
    max_waiting_for_loads: how many requests may wait for models to load.
    image: the formats of an upload, and the bounds of its size in pixels.
    decode_processes: how many images are decoded, and drawn on, at a time.
    decode_memory_bytes: what all decodes together may take.
    decode_timeout_seconds: how long one decode may take.
    overlay_side_pixels: the longest side of an image in a drawing.
    batch_timeout_seconds: how long a batch may take until its thread counts as hung.
    max_inference_restarts: how often such a thread may be replaced within ten minutes.
    """

    models_memory_bytes: int
    max_waiting_for_loads: int
    image: DecodeLimits
    decode_processes: int
    decode_memory_bytes: int
    decode_timeout_seconds: float
    overlay_side_pixels: int
    max_batch_size: int
    max_batch_wait_seconds: float
    max_queue_size: int
    request_timeout_seconds: float
    batch_timeout_seconds: float = 60.0
    max_inference_restarts: int = 3


class CaptionEngine:
    """Owns the pool of captioners, the decoders, the threads that infer or draw, the batcher."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        default_model: str,
        limits: EngineLimits,
        metrics: Metrics,
        prepare_thread: Callable[[], None] = lambda: None,
        prepare_load_thread: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a catalog, the limits, and the metrics to count in.

        prepare_thread: called once in each thread that captions, before any model is loaded.
        prepare_load_thread: called once in the thread that loads models.
        """
        self._default_model = default_model
        self._metrics = metrics
        self._limits = limits
        self._supervisor = InferenceSupervisor(
            prepare_thread,
            batch_timeout_seconds=limits.batch_timeout_seconds,
            max_restarts=limits.max_inference_restarts,
            metrics=metrics,
        )
        self._drawing = ThreadPoolExecutor(limits.decode_processes, thread_name_prefix="draw")
        self._decoders = DecodePool(
            limits.image,
            processes=limits.decode_processes,
            memory_bytes=limits.decode_memory_bytes,
            timeout_seconds=limits.decode_timeout_seconds,
            metrics=metrics,
        )
        self._runner = BatchRunner(metrics)
        self._has_captioned = False
        self._decoding_yielding = asyncio.Lock()
        self._trimming: asyncio.Task[None] | None = None
        self._prover = Prover(self._supervisor, self._runner, self._prepare_canary, metrics)
        self._batcher: DynamicBatcher[CaptionJob, Caption] = DynamicBatcher(
            self._run_batch,
            self._supervisor.turn,
            judge=self._supervisor.judge,
            max_batch_size=limits.max_batch_size,
            max_batch_wait_seconds=limits.max_batch_wait_seconds,
            max_queue_size=limits.max_queue_size,
        )
        self._pool = CaptionerPool(
            catalog,
            self._prover.prove,
            default=default_model,
            limit_bytes=limits.models_memory_bytes,
            max_waiting=limits.max_waiting_for_loads,
            prepare_thread=prepare_load_thread,
            metrics=metrics,
        )
        self._directory = ModelDirectory(catalog, self._pool, self._prover)
        metrics.queue_limit.set(limits.max_queue_size)
        metrics.queue_depth.set_function(lambda: self._batcher.depth)
        metrics.ready.set_function(self._is_ready)

    @property
    def state(self) -> EngineState:
        """Where the engine is in its life."""
        return self._supervisor.state

    @property
    def has_left_threads_behind(self) -> bool:
        """Whether a thread that hung still runs: the process must not wait for it."""
        return self._pool.has_left_threads_behind or self._supervisor.has_left_threads_behind

    @property
    def retry_after_seconds(self) -> int:
        """In how many seconds what waits now will have been captioned."""
        return self._batcher.retry_after_seconds

    def when_failed(self, callback: Callable[[str], None]) -> None:
        """Set what is called once, with the reason, where only a new process can help."""
        self._supervisor.when_failed(callback)

    @property
    def default_model(self) -> str:
        """The name of the model that answers if a request names none."""
        return self._default_model

    async def start(self) -> Self:
        """Load the default model and begin to run batches.

        Raises CheckpointError, ConfigError or UnknownModelError if it cannot be loaded.
        """
        self._decoders.start()  # they get ready while the model is loaded
        try:
            await self._supervisor.start()
            await self._pool.start()
        except BaseException:
            self._pool.stop()
            self._supervisor.fails_to_start()
            await self._decoders.stop()
            raise
        self._supervisor.warms_up()
        self._batcher.start(when_broken=self._supervisor.give_up)
        self._trimming = asyncio.get_running_loop().create_task(self._trim_now_and_then())
        return self

    async def warm_up(self) -> None:
        """Send the canary through the default model and become `ready`.

        Where anything goes wrong, log it and become `failed`.
        """
        started = perf_counter()
        try:
            async with self._pool.use(self._default_model) as captioner:
                await self._prover.announce(captioner)
                model = ModelHandle(captioner.info)
                answer = await self._answer(model, self._canary(), model.decoding)
            check_canary(answer.caption)
        except Exception as error:
            if isinstance(error, GlimpseError | ServiceError):
                _logger.error("the canary image failed: %s", error)
            else:
                _logger.exception("the canary image failed")
            self._supervisor.give_up(f"the canary image failed ({type(error).__name__})")
            return
        seconds = perf_counter() - started
        self._supervisor.retry_after_seconds = max(2, math.ceil(2 * seconds))
        self._supervisor.becomes_ready(partial(self._prover.send, captioner, answer.image))
        _logger.info(
            "ready",
            extra={
                "model": answer.model.name,
                "digest": answer.model.digest[:12],
                "canary_seconds": round(seconds, 4),
                "canary_caption": answer.caption.best.text,
            },
        )
        if seconds > _SLOW_CANARY_SECONDS:
            _logger.warning(
                "the canary took %.1f s: do other programs use the processors? Then fewer threads "
                "are faster: GLIMPSE_COMPUTE_THREADS",
                seconds,
            )

    async def stop(self, *, drain_seconds: float) -> None:
        """Answer what waits, refuse what comes, and release the threads, within `drain_seconds`."""
        self._pool.stop()
        if self._trimming is not None:
            self._trimming.cancel()
        await self._batcher.stop(drain_seconds=drain_seconds)
        await self._decoders.stop()
        self._supervisor.stop()
        self._directory.close()
        self._drawing.shutdown(wait=False, cancel_futures=True)

    def check_ready(self) -> None:
        """Raise NotReadyError or StoppingError unless the engine is `ready` and decodes images."""
        self._supervisor.check_ready()
        self._decoders.check_working()

    def _is_ready(self) -> bool:
        """Tell what `/readyz` tells, for the metric."""
        try:
            self.check_ready()
        except BusyError:
            return False
        return True

    async def models(self) -> list[ModelStatus]:
        """List every model, by name."""
        return await self._directory.every()

    async def model(self, name: str | None, *, deadline: float | None = None) -> ModelHandle:
        """Find the model that a request names, without loading it; None is the default one.

        deadline: as `deadline` gives it; None for the server's own from now on.
        Raises UnknownModelError, ModelUnavailableError, QueueFullError where too many wait for
        loads, RequestTimeoutError where its files cannot be read in time, and NotReadyError or
        StoppingError where the default model does not answer.
        """
        self.check_ready()
        name = self._default_model if name is None else name
        loaded = self._directory.in_memory(name)
        if loaded is not None:
            return loaded
        deadline = self.deadline() if deadline is None else deadline
        return await self._in_time(self._directory.look_up(name), deadline, _NOT_LOOKED_UP)

    async def caption(
        self,
        model: ModelHandle,
        data: bytes,
        options: DecodingOptions,
        *,
        deadline: float | None = None,
        yields: bool = False,
    ) -> Captioned:
        """Caption one upload with a model, which is loaded where it is not in memory.

        Raises ImageError, ModelUnavailableError, and every BusyError there is. What else the
        captioner raises for this image comes out as it is; the others of its batch are unharmed.

        deadline: as `deadline` gives it; None for the server's own from now on.
        yields: it is nothing that anybody waits for: others go first.
        """
        self.check_ready()
        deadline = self.deadline() if deadline is None else deadline
        answer = self._yielding if yields else self._answer
        return await self._in_time(answer(model, data, options, deadline), deadline)

    def deadline(self, asked_seconds: float = math.inf) -> float:
        """Give when a request's time is over, on the event loop's clock.

        asked_seconds: how long the client will wait from now on; the server's own limit holds too.
        """
        seconds = min(asked_seconds, self._limits.request_timeout_seconds)
        return asyncio.get_running_loop().time() + seconds

    async def overlay(
        self, data: bytes, caption: Caption, *, word: int | None, deadline: float | None = None
    ) -> bytes:
        """Draw the attention maps over the upload: a PNG file.

        word: a position in the best caption, from 0; None for all words.
        deadline: as `deadline` gives it; None for the server's own from now on.
        Raises ImageError or RequestTimeoutError.
        """
        deadline = self.deadline() if deadline is None else deadline
        with self._metrics.render_seconds.time(), stage("render"):
            return await self._in_time(self._draw(data, caption, word), deadline)

    def _canary(self) -> bytes:
        limits = self._limits.image
        return canary_image(max(_CANARY_SIDE_PIXELS, limits.min_side_pixels), limits.formats)

    async def _prepare_canary(self, captioner: Captioner) -> PreparedImage:
        return await self._decoders.prepare(self._canary(), captioner.info.config.preprocess)

    async def _trim_now_and_then(self) -> None:
        """Give back what batches left in the heap, between two of them or when there are none."""
        while True:
            await asyncio.sleep(_TRIM_SECONDS)
            if self._has_captioned:
                self._has_captioned = False
                with suppress(InferenceLostError):  # its supervisor sees to that
                    await self._supervisor.run(trim_heap)

    def _run_batch(self, jobs: Sequence[CaptionJob]) -> list[Caption | Exception]:
        """Caption a batch, in the inference thread."""
        results = self._runner.run(jobs)
        self._has_captioned = True
        return results

    async def _in_time(
        self, answer: Coroutine[Any, Any, Value], deadline: float, late: str = _NOT_ANSWERED
    ) -> Value:
        """Give the answer; raise RequestTimeoutError, with the text `late`, where it is late."""
        started = asyncio.get_running_loop().time()
        try:
            at = None if math.isinf(deadline) else deadline
            async with asyncio.timeout_at(at) as clock:
                return await answer
        except TimeoutError as error:
            if not clock.expired():  # the answer's own: a runtime may raise it
                raise
            seconds = deadline - started
            told = late.format(seconds=seconds) if seconds > 0 else _TURN_TOO_LATE
            raise RequestTimeoutError(told, retry_after_seconds=self.retry_after_seconds) from error

    async def _answer(
        self,
        model: ModelHandle,
        data: bytes,
        options: DecodingOptions,
        deadline: float = math.inf,
    ) -> Captioned:
        self._batcher.check_room()  # before the work of decoding
        async with self._pool.use(model.name) as captioner:
            with self._batcher.coming():
                image, decode_seconds = await self._decode(captioner, data)
            job = CaptionJob(captioner, image, options)
            done = await self._batcher.submit(job, deadline=deadline)
        self._metrics.queue_seconds.observe(done.queue_seconds)
        return _captioned(job, done, decode_seconds)

    async def _yielding(
        self, model: ModelHandle, data: bytes, options: DecodingOptions, deadline: float
    ) -> Captioned:
        """Caption after all others: one such image is decoded at a time, and no batch waits."""
        async with self._pool.use(model.name) as captioner:
            async with self._decoding_yielding:
                image, decode_seconds = await self._decode(captioner, data)
            job = CaptionJob(captioner, image, options)
            done = await self._batcher.submit(job, deadline=deadline, yields=True)
        return _captioned(job, done, decode_seconds)

    async def _decode(self, captioner: Captioner, data: bytes) -> tuple[PreparedImage, float]:
        """Decode an upload for a model; give the seconds that it took too."""
        self._metrics.upload_bytes.observe(len(data))
        started = perf_counter()
        with stage("decode"):
            image = await self._decoders.prepare(data, captioner.info.config.preprocess)
        seconds = perf_counter() - started
        self._metrics.decode_seconds.observe(seconds)
        return image, seconds

    async def _draw(self, data: bytes, caption: Caption, word: int | None) -> bytes:
        side_pixels = self._limits.overlay_side_pixels
        image = await self._decoders.picture(data, side_pixels)
        draw = partial(draw_overlay, image, caption, word=word, side_pixels=side_pixels)
        return await asyncio.get_running_loop().run_in_executor(self._drawing, draw)


def _captioned(job: CaptionJob, done: Completed[Caption], decode_seconds: float) -> Captioned:
    """Put an answer together, and its time into the trace."""
    past_stage("queue", done.queue_seconds, ended_seconds_ago=done.compute_seconds)
    past_stage("inference", done.compute_seconds)
    return Captioned(
        caption=done.result,
        image=job.image,
        model=job.captioner.info,
        decode_seconds=decode_seconds,
        queue_seconds=done.queue_seconds,
        compute_seconds=done.compute_seconds,
    )
