"""The caption engine: loads one model, proves it with a canary, and captions uploads in batches. Knows no HTTP.

    bytes ──> decode threads: decode, resize ──> DynamicBatcher ──> inference thread: captioner.caption ──> answer

The model is loaded, warmed up and run in one thread, the inference thread; nothing else computes with it. Pictures
are decoded before they queue, so that a bad one is refused early and a queued one is small.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from time import perf_counter
from typing import Any, Self, TypeVar

from app.core.errors import ModelNotServedError, NotReadyError, RequestTimeoutError, StoppingError
from app.core.metrics import Metrics
from app.engine.batcher import DynamicBatcher
from app.engine.canary import canary_picture, check_canary
from app.engine.overlay import draw_overlay
from models.captioner import Caption, Captioner, ModelInfo
from models.config import DecodingOptions
from models.errors import UnknownModelError
from models.preprocessing import DecodeLimits, PreparedImage

__all__ = ["CaptionEngine", "Captioned", "EngineState", "ModelStatus"]

_logger = logging.getLogger(__name__)
_CANARY_SIDE_PIXELS = 256

Value = TypeVar("Value")


class EngineState(StrEnum):
    """The life of an engine, in order; `failed` may follow any of the first three."""

    loading = "loading"
    warming_up = "warming up"
    ready = "ready"
    failed = "failed"
    stopped = "stopped"


@dataclass(frozen=True, slots=True)
class Captioned:
    """One answer: the caption, the picture it is of, the model it is from, and where the time went, in seconds."""

    caption: Caption
    image: PreparedImage
    model: ModelInfo
    decode_seconds: float
    queue_seconds: float
    compute_seconds: float


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model that exists; `info` is None where it is not loaded."""

    name: str
    info: ModelInfo | None


@dataclass(frozen=True, slots=True)
class _Job:
    image: PreparedImage
    options: DecodingOptions


class CaptionEngine:
    """Owns the captioner, its inference thread, the decode threads and the batcher between them."""

    def __init__(
        self,
        load: Callable[[], Captioner],
        list_names: Callable[[], list[str]],
        *,
        metrics: Metrics,
        limits: DecodeLimits,
        decode_threads: int,
        overlay_side_pixels: int,
        max_batch_size: int,
        max_batch_wait_seconds: float,
        max_queue_size: int,
        request_timeout_seconds: float,
    ) -> None:
        """load: builds the captioner, called once, in the inference thread. list_names: every model there is."""
        self._load = load
        self._list_names = list_names
        self._metrics = metrics
        self._limits = limits
        self._overlay_side_pixels = overlay_side_pixels
        self._request_timeout_seconds = request_timeout_seconds
        self._inference = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._decoding = ThreadPoolExecutor(max_workers=decode_threads, thread_name_prefix="decode")
        self._batcher: DynamicBatcher[_Job, Caption] = DynamicBatcher(
            self._run_batch,
            self._inference,
            max_batch_size=max_batch_size,
            max_batch_wait_seconds=max_batch_wait_seconds,
            max_queue_size=max_queue_size,
        )
        self._captioner: Captioner | None = None
        self._state = EngineState.loading
        metrics.queue_depth.set_function(lambda: self._batcher.depth)
        metrics.ready.set_function(lambda: self.state is EngineState.ready)

    @property
    def state(self) -> EngineState:
        """Where the engine is in its life; a batcher that broke makes it `failed`."""
        if self._state is EngineState.ready and not self._batcher.alive:
            return EngineState.failed
        return self._state

    async def start(self) -> Self:
        """Load the model and begin to run batches.

        Raises CheckpointError, ConfigError or UnknownModelError where the model cannot be loaded.
        """
        loop = asyncio.get_running_loop()
        try:
            self._captioner = await loop.run_in_executor(self._inference, self._load)
        except BaseException:
            self._state = EngineState.failed
            raise
        info = self._captioner.info
        self._metrics.model.labels(info.name, info.digest).set(1)
        self._state = EngineState.warming_up
        self._batcher.start()
        return self

    async def warm_up(self) -> None:
        """Send the canary the whole way and become ready; whatever goes wrong is logged, and makes `failed`."""
        started = perf_counter()
        try:
            data = canary_picture(max(_CANARY_SIDE_PIXELS, self._limits.min_side_pixels))
            answer = await self._answer(data, self._loaded().info.config.decoding)
            check_canary(answer.caption)
        except Exception:
            self._state = EngineState.failed
            _logger.critical("the canary picture failed: this replica will not become ready", exc_info=True)
            return
        self._state = EngineState.ready
        _logger.info(
            "ready",
            extra={
                "model": answer.model.name,
                "digest": answer.model.digest[:12],
                "canary_seconds": round(perf_counter() - started, 4),
                "canary_caption": answer.caption.hypotheses[0].text,
            },
        )

    async def stop(self, *, drain_seconds: float) -> None:
        """Answer what waits, refuse what comes, and release the threads; drain_seconds at most."""
        await self._batcher.stop(drain_seconds=drain_seconds)
        self._state = EngineState.stopped
        self._inference.shutdown(wait=False, cancel_futures=True)
        self._decoding.shutdown(wait=False, cancel_futures=True)

    def check_ready(self) -> None:
        """Raise NotReadyError, or StoppingError, unless the canary has gone through."""
        if self.state is EngineState.stopped:
            raise StoppingError("The service is shutting down. Try again in a few seconds.")
        if self.state is EngineState.failed:
            raise NotReadyError("The model does not work; the operator finds the reason in the service's log.")
        if self.state is not EngineState.ready:
            raise NotReadyError(f"The model is {self.state}. Try again in a few seconds.")

    def models(self) -> list[ModelStatus]:
        """Every model there is, the loaded one with its information, by name."""
        info = self._captioner.info if self._captioner else None
        names = {*self._list_names(), *([info.name] if info else [])}
        return [ModelStatus(name, info if info and info.name == name else None) for name in sorted(names)]

    def decoding_defaults(self, model: str | None) -> DecodingOptions:
        """The options that the model was tuned for. Raises as `caption` does for the model and its readiness."""
        return self._resolve(model).info.config.decoding

    async def caption(self, data: bytes, options: DecodingOptions, *, model: str | None = None) -> Captioned:
        """Caption one upload.

        Raises ImageError, UnknownModelError, ModelNotServedError, and every BusyError there is. What else the
        captioner raises for this picture comes out as it is; other pictures of its batch are not touched by it.
        """
        self._resolve(model)
        return await self._in_time(self._answer(data, options))

    async def overlay(self, data: bytes, caption: Caption, *, word: int | None) -> bytes:
        """A PNG file of the upload with its attention maps; word is a position in the best caption, or None for all.

        Raises ImageError or RequestTimeoutError.
        """
        draw = partial(
            draw_overlay, data, caption, word=word, side_pixels=self._overlay_side_pixels, limits=self._limits
        )
        with self._metrics.render_seconds.time():
            return await self._in_time(self._in_decode_thread(draw))

    def _resolve(self, model: str | None) -> Captioner:
        """The captioner that serves the model of that name; None is the loaded one."""
        self.check_ready()
        captioner = self._loaded()
        served = captioner.info.name
        if model is None or model == served:
            return captioner
        names = [status.name for status in self.models()]
        if model in names:
            raise ModelNotServedError(f"This server has '{served}' loaded, not '{model}'. Leave `model` out to use it.")
        raise UnknownModelError(f"There is no model named '{model}'. Models: {', '.join(names)}.")

    def _loaded(self) -> Captioner:
        if self._captioner is None:
            raise NotReadyError("The model is still being loaded. Try again in a few seconds.")
        return self._captioner

    async def _in_time(self, answer: Coroutine[Any, Any, Value]) -> Value:
        try:
            async with asyncio.timeout(self._request_timeout_seconds):
                return await answer
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"No answer within {self._request_timeout_seconds:g} seconds. "
                "Try again later, or send a smaller picture."
            ) from error

    async def _answer(self, data: bytes, options: DecodingOptions) -> Captioned:
        captioner = self._loaded()
        self._batcher.check_room()  # before the work of decoding
        started = perf_counter()
        self._metrics.upload_bytes.observe(len(data))
        image = await self._in_decode_thread(partial(captioner.prepare, data, self._limits))
        decode_seconds = perf_counter() - started
        self._metrics.decode_seconds.observe(decode_seconds)
        done = await self._batcher.submit(_Job(image, options))
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

    def _run_batch(self, jobs: list[_Job]) -> list[Caption | Exception]:
        """In the inference thread: one forward pass for each distinct set of options among the jobs."""
        self._metrics.batch_size.observe(len(jobs))
        groups: dict[DecodingOptions, list[int]] = {}
        for position, job in enumerate(jobs):
            groups.setdefault(job.options, []).append(position)
        results: dict[int, Caption | Exception] = {}
        with self._metrics.inference_seconds.time():
            for options, positions in groups.items():
                images = [jobs[position].image for position in positions]
                results.update(zip(positions, self._caption_group(images, options), strict=True))
        return [results[position] for position in range(len(jobs))]

    def _caption_group(self, images: list[PreparedImage], options: DecodingOptions) -> list[Caption | Exception]:
        """Caption pictures together; where that fails, one at a time, so that a poisoned picture fails alone."""
        try:
            captions = self._loaded().caption(images, options)
            if len(captions) != len(images):
                raise RuntimeError(f"the captioner gave {len(captions)} captions for {len(images)} pictures")
        except Exception as error:
            if len(images) == 1:
                self._metrics.item_failures.inc()
                return [error]
            self._metrics.batch_retries.inc()
            _logger.warning("a batch of %d failed, trying one picture at a time", len(images), exc_info=True)
            return [self._caption_group([image], options)[0] for image in images]
        return list(captions)
