"""The engine: readiness by canary, batches by options, a poisoned image alone, every refusal its
own error."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.core.errors import NotReadyError, QueueFullError, RequestTimeoutError, StoppingError
from app.core.metrics import Metrics
from app.core.settings import DEFAULT_MODEL as NAME
from app.engine.engine import Captioned, CaptionEngine, EngineLimits, EngineState
from app.engine.fake import FakeCaptioner
from models.caption import Caption, Captioner, ModelInfo
from models.config import DecodingOptions
from models.errors import CheckpointError, TruncatedImageError, UnknownModelError
from models.preprocessing import DecodeLimits, PreparedImage

POISON = 77
ANSWERED_SECONDS = 30
OPTIONS = DecodingOptions()


def image_file(value: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (32, 24), (value, 10, 10)).save(file, format="PNG")
    return file.getvalue()


class Recording(FakeCaptioner):
    """Remembers its batches, and fails whenever an image of red POISON is among them."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.batches: list[tuple[int, DecodingOptions]] = []

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        self.batches.append((len(images), options))
        if any(image.pixels[0].max() == POISON for image in images):
            raise ValueError("poisoned")
        return super().caption(images, options)


class OneModel:
    """A catalog of one model."""

    def __init__(self, load: Callable[[], Captioner]) -> None:
        self._load = load

    def names(self) -> list[str]:
        return [NAME]

    def describe(self, name: str) -> ModelInfo:
        return self.load(name).info

    def load(self, name: str) -> Captioner:
        assert name == NAME
        return self._load()

    def reject(self, name: str, reason: str) -> None:
        raise AssertionError(f"{name} was rejected: {reason}")


def build(load: Callable[[], Captioner], **changes: Any) -> CaptionEngine:
    limits = EngineLimits(
        models_memory_bytes=0,
        max_waiting_for_loads=1,
        image=DecodeLimits(),
        decode_processes=1,
        decode_memory_bytes=100_000_000,
        decode_timeout_seconds=ANSWERED_SECONDS,
        overlay_side_pixels=256,
        max_batch_size=8,
        max_batch_wait_seconds=0.0,
        max_queue_size=100,
        request_timeout_seconds=ANSWERED_SECONDS,
    )
    return CaptionEngine(
        OneModel(load), default_model=NAME, limits=replace(limits, **changes), metrics=Metrics()
    )


@asynccontextmanager
async def running(load: Callable[[], Captioner], **changes: Any) -> AsyncIterator[CaptionEngine]:
    engine = await build(load, **changes).start()
    try:
        await engine.warm_up()
        yield engine
    finally:
        await engine.stop(drain_seconds=ANSWERED_SECONDS)


async def ask(
    engine: CaptionEngine, data: bytes, options: DecodingOptions = OPTIONS, model: str | None = None
) -> Captioned:
    return await engine.caption(await engine.model(model), data, options)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, ANSWERED_SECONDS))


def test_engine_before_the_canary_is_not_ready_and_after_it_is() -> None:
    async def scenario() -> None:
        engine = build(Recording)
        assert str(engine.state) == "loading"
        with pytest.raises(NotReadyError, match="loading"):
            await ask(engine, image_file(1))
        await engine.start()
        assert str(engine.state) == "warming up"
        with pytest.raises(NotReadyError, match="warming up"):
            engine.check_ready()
        await engine.warm_up()
        engine.check_ready()
        await engine.stop(drain_seconds=1.0)
        with pytest.raises(StoppingError):
            engine.check_ready()

    run(scenario())


def test_engine_canary_goes_through_the_batch_path_with_the_models_own_options() -> None:
    async def scenario() -> None:
        captioner = Recording()
        async with running(lambda: captioner):
            assert captioner.batches == [(1, captioner.info.config.decoding)]

    run(scenario())


class _BrokenMaps(FakeCaptioner):
    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        captions = super().caption(images, options)
        return [self._without_map(caption) for caption in captions]

    @staticmethod
    def _without_map(caption: Caption) -> Caption:
        best = caption.hypotheses[0]
        words = tuple(
            replace(word, alpha=np.full_like(word.alpha, math.nan)) for word in best.words
        )
        return replace(caption, hypotheses=(replace(best, words=words),))


class _Raising(FakeCaptioner):
    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        raise RuntimeError(f"no such operator for {len(images)} images with {options}")


@pytest.mark.parametrize("captioner", [_BrokenMaps, _Raising])
def test_engine_canary_coming_out_wrong_makes_it_failed_for_good(
    captioner: type[FakeCaptioner],
) -> None:
    async def scenario() -> None:
        async with running(lambda: captioner(NAME)) as engine:
            assert engine.state is EngineState.failed
            with pytest.raises(NotReadyError, match="log"):
                await ask(engine, image_file(1))

    run(scenario())


def test_engine_model_that_cannot_be_loaded_raises_at_start() -> None:
    def load() -> Captioner:
        raise CheckpointError("model.safetensors is damaged")

    async def scenario() -> None:
        engine = build(load)
        with pytest.raises(CheckpointError, match="damaged"):
            await engine.start()
        assert engine.state is EngineState.failed
        await engine.stop(drain_seconds=1.0)

    run(scenario())


def test_engine_batch_gives_what_single_images_give() -> None:
    async def scenario() -> None:
        images = [image_file(value) for value in range(0, 200, 20)]
        async with running(Recording) as engine:
            alone = [await ask(engine, each) for each in images]
            together = await asyncio.gather(*(ask(engine, each) for each in images))
        for one, other in zip(alone, together, strict=True):
            assert one.caption.hypotheses[0].text == other.caption.hypotheses[0].text
            for word, same in zip(
                one.caption.hypotheses[0].words, other.caption.hypotheses[0].words, strict=True
            ):
                np.testing.assert_array_equal(word.alpha, same.alpha)

    run(scenario())


def test_engine_different_options_in_a_batch_run_one_pass_each_and_keep_their_order() -> None:
    async def scenario() -> None:
        captioner = Recording()
        async with running(
            lambda: captioner, max_batch_wait_seconds=1.0, max_batch_size=4
        ) as engine:
            captioner.batches.clear()
            one, two = DecodingOptions(num_captions=1), DecodingOptions(num_captions=2)
            answers = await asyncio.gather(
                *(ask(engine, image_file(9), options) for options in (one, two, one, two))
            )
            assert [len(answer.caption.hypotheses) for answer in answers] == [1, 2, 1, 2]
            assert captioner.batches == [(2, one), (2, two)]

    run(scenario())


def test_engine_poisoned_image_fails_alone() -> None:
    async def scenario() -> None:
        async with running(Recording, max_batch_wait_seconds=1.0, max_batch_size=5) as engine:
            values = [1, 2, POISON, 3, 4]
            answers = await asyncio.gather(
                *(ask(engine, image_file(value)) for value in values),
                return_exceptions=True,
            )
            assert [isinstance(answer, ValueError) for answer in answers] == [
                value == POISON for value in values
            ]
            assert (await ask(engine, image_file(5))).caption.hypotheses

    run(scenario())


def test_engine_bad_image_raises_the_librarys_error() -> None:
    async def scenario() -> None:
        async with running(Recording) as engine:
            with pytest.raises(TruncatedImageError):
                await ask(engine, image_file(1)[:40])

    run(scenario())


def test_engine_unnamed_model_is_the_default_one_and_an_unknown_one_is_refused() -> None:
    async def scenario() -> None:
        async with running(Recording) as engine:
            for model in (None, NAME):
                assert (await ask(engine, image_file(1), model=model)).model.name == NAME
            for model in ("none", "", "../" + NAME):
                with pytest.raises(UnknownModelError, match=f"Models: {NAME}"):
                    await ask(engine, image_file(1), model=model)

    run(scenario())


def test_engine_full_queue_raises_before_decoding() -> None:
    async def scenario() -> None:
        slow = FakeCaptioner(NAME, batch_seconds=0.3)
        async with running(lambda: slow, max_batch_size=1, max_queue_size=1) as engine:
            calls = [asyncio.create_task(ask(engine, image_file(value))) for value in range(6)]
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert any(isinstance(each, QueueFullError) for each in done)
            assert any(not isinstance(each, BaseException) for each in done)

    run(scenario())


def test_engine_answer_out_of_time_raises_and_the_next_is_answered() -> None:
    async def scenario() -> None:
        captioner = FakeCaptioner(NAME)
        async with running(lambda: captioner, request_timeout_seconds=0.5) as engine:
            captioner._batch_seconds = 0.8
            with pytest.raises(RequestTimeoutError, match=r"0\.5 seconds"):
                await ask(engine, image_file(1))
            captioner._batch_seconds = 0.0
            await asyncio.sleep(0.5)
            assert (await ask(engine, image_file(1))).caption.hypotheses

    run(scenario())


def test_engine_overlay_draws_all_words_or_one() -> None:
    async def scenario() -> None:
        async with running(Recording) as engine:
            data = image_file(5)
            caption = (await ask(engine, data)).caption
            for word in (None, 1):
                drawing = await engine.overlay(data, caption, word=word)
                assert Image.open(BytesIO(drawing)).format == "PNG"

    run(scenario())
