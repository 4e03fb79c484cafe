"""The engine whose inference thread hangs, crashes, or fails for good: callers are told, it is
replaced, ready again, or given up in one line."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.core.errors import InferenceLostError, ModelUnavailableError, NotReadyError
from app.core.metrics import Metrics
from app.engine.engine import CaptionEngine, EngineState
from models.caption import Caption
from models.config import DecodingOptions
from models.memory import MemoryUse
from models.preprocessing import PreparedImage
from tests.unit.toy_engine import ANSWERED_SECONDS, DEFAULT, Shelf, Sized, ask, run, running, until

HANGS, CRASHES, FAILS = 200, 220, 240
BATCH_TIMEOUT_SECONDS = 0.3


class Faulty(Sized):
    """Hangs, crashes or fails with images of certain reds, and with the canary where told to."""

    def __init__(self, name: str) -> None:
        super().__init__(name, MemoryUse(50, {}))
        self.canary_fails = False
        self.let_go = threading.Event()
        self.threads: list[threading.Thread] = []

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        self.threads.append(threading.current_thread())
        reds = {int(image.pixels[0].max()) for image in images}
        if HANGS in reds:
            assert self.let_go.wait(ANSWERED_SECONDS)
        if CRASHES in reds:
            raise SystemExit(1)
        if FAILS in reds or (self.canary_fails and 255 in reds):
            raise RuntimeError("no such operator")
        return super().caption(images, options)


@asynccontextmanager
async def faulty(
    metrics: Metrics | None = None, **changes: Any
) -> AsyncIterator[tuple[CaptionEngine, Faulty]]:
    shelf = Shelf("other")
    captioner = shelf.captioners[DEFAULT] = Faulty(DEFAULT)
    limits = {"batch_timeout_seconds": BATCH_TIMEOUT_SECONDS, **changes}
    async with running(shelf, metrics, **limits) as engine:
        try:
            yield engine, captioner
        finally:
            captioner.let_go.set()


@pytest.mark.parametrize(("red", "how"), [(HANGS, "hung"), (CRASHES, "crashed")])
def test_thread_that_is_lost_answers_its_callers_is_replaced_and_ready_again(
    red: int, how: str
) -> None:
    metrics = Metrics()

    async def scenario() -> None:
        async with faulty(metrics) as (engine, captioner):
            before = (await ask(engine, None, 1)).caption
            with pytest.raises(InferenceLostError, match=how):
                await ask(engine, None, red)
            assert engine.state is EngineState.restarting
            with pytest.raises(NotReadyError, match="started again"):
                engine.check_ready()
            await until(lambda: engine.state is EngineState.ready)
            after = (await ask(engine, None, 1)).caption
            assert after.best.text == before.best.text
            assert captioner.threads[-1] is not captioner.threads[0]

    run(scenario())
    assert f'glimpse_inference_lost_total{{how="{how}"}} 1.0'.encode() in metrics.render()


def test_thread_that_is_lost_leaves_those_in_the_queue_to_the_new_one() -> None:
    async def scenario() -> None:
        async with faulty(max_batch_size=1) as (engine, _):
            asked = [asyncio.create_task(ask(engine, None, red)) for red in (HANGS, 1, 2, 3)]
            lost, *others = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(lost, InferenceLostError)
            assert not any(isinstance(each, BaseException) for each in others)

    run(scenario())


def test_thread_left_behind_is_ignored_when_it_ends_at_last() -> None:
    async def scenario() -> None:
        async with faulty() as (engine, captioner):
            with pytest.raises(InferenceLostError):
                await ask(engine, None, HANGS)
            await until(lambda: engine.state is EngineState.ready)
            assert engine.has_left_threads_behind
            captioner.let_go.set()
            await until(lambda: not engine.has_left_threads_behind)
            assert (await ask(engine, None, 1)).caption.hypotheses
            assert engine.state is EngineState.ready

    run(scenario())


async def last_words(engine: CaptionEngine, fail: Callable[[], Any]) -> str:
    """Fail until the engine gives up; give the one reason that it called for the end with."""
    calls: list[str] = []
    engine.when_failed(calls.append)
    while engine.state is not EngineState.failed:
        await asyncio.gather(fail(), return_exceptions=True)
        await asyncio.sleep(0.005)
    (reason,) = calls
    return reason


def test_thread_lost_more_often_than_may_be_gives_up() -> None:
    async def scenario() -> None:
        async with faulty(max_inference_restarts=2) as (engine, _):
            reason = await last_words(engine, lambda: ask(engine, None, CRASHES))
            assert "the inference thread crashed, and was restarted 2 times" in reason
            with pytest.raises(NotReadyError, match="log"):
                await ask(engine, None, 1)

    run(scenario())


def test_canary_that_fails_after_a_restart_gives_up() -> None:
    async def scenario() -> None:
        async with faulty() as (engine, captioner):
            captioner.canary_fails = True
            reason = await last_words(engine, lambda: ask(engine, None, CRASHES))
            assert "the canary image failed after the inference thread crashed" in reason

    run(scenario())


def test_batches_that_fail_in_a_row_ask_the_canary_and_give_up_where_it_fails_too() -> None:
    async def scenario() -> None:
        async with faulty() as (engine, captioner):
            captioner.canary_fails = True
            reason = await last_words(engine, lambda: ask(engine, None, FAILS))
            assert "5 batches in a row failed, and so did the canary image" in reason

    run(scenario())


def test_batch_of_a_thread_left_behind_counts_neither_for_nor_against_the_model() -> None:
    async def scenario() -> None:
        async with faulty() as (engine, captioner):
            for _ in range(4):
                with pytest.raises(RuntimeError):
                    await ask(engine, None, FAILS)
            with pytest.raises(InferenceLostError):
                await ask(engine, None, HANGS)
            await until(lambda: engine.state is EngineState.ready)
            captioner.let_go.set()  # its batch comes out well, at last
            await until(lambda: not engine.has_left_threads_behind)
            captioner.canary_fails = True
            with pytest.raises(RuntimeError):
                await ask(engine, None, FAILS)  # the fifth in a row
            await until(lambda: engine.state is EngineState.failed)

    run(scenario())


def test_last_word_is_one_line_of_the_log_where_nobody_else_takes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with faulty(max_inference_restarts=0) as (engine, _):
            with pytest.raises(InferenceLostError):
                await ask(engine, None, CRASHES)
            await until(lambda: engine.state is EngineState.failed)

    run(scenario())
    said = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert len(said) == 1
    assert "cannot go on: the inference thread crashed" in said[0].getMessage()


def test_poisoned_images_in_a_row_do_not_take_a_good_model_down() -> None:
    async def scenario() -> None:
        async with faulty() as (engine, _):
            for _ in range(12):
                with pytest.raises(RuntimeError, match="no such operator"):
                    await ask(engine, None, FAILS)
            assert (await ask(engine, None, 1)).caption.hypotheses
            assert engine.state is EngineState.ready

    run(scenario())


def test_other_model_whose_canary_hangs_is_rejected_and_the_engine_ready_again() -> None:
    async def scenario() -> None:
        shelf = Shelf("other")
        shelf.captioners["other"].may_caption.clear()
        async with running(shelf, batch_timeout_seconds=BATCH_TIMEOUT_SECONDS) as engine:
            with pytest.raises(ModelUnavailableError):
                await ask(engine, "other")
            await until(lambda: engine.state is EngineState.ready)
            assert (await ask(engine, None)).model.name == DEFAULT
            assert "other" in shelf.rejected
            shelf.captioners["other"].may_caption.set()

    run(scenario())


def test_engine_stopped_while_it_restarts_ends() -> None:
    async def scenario() -> None:
        async with faulty() as (engine, captioner):
            captioner.may_caption.clear()  # the canary will hang
            with pytest.raises(InferenceLostError):
                await ask(engine, None, CRASHES)
            await engine.stop(drain_seconds=0.1)
            assert engine.state is EngineState.stopped
            captioner.may_caption.set()

    run(scenario())
