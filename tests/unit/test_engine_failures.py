"""Models that cannot be loaded, or not in time: each fails alone, and whoever waits is told."""

import asyncio

import pytest

from app.core.errors import (
    DecoderLostError,
    ModelUnavailableError,
    QueueFullError,
    RequestTimeoutError,
    StoppingError,
)
from app.engine import engine as engine_module
from app.engine.engine import Captioned
from models.errors import ImageTooSlowError, OutOfMemoryError
from tests.unit.toy_engine import (
    ANSWERED_SECONDS,
    DEFAULT,
    OPTIONS,
    Shelf,
    ask,
    image_file,
    loaded,
    run,
    running,
    until,
)


def test_engine_load_that_fails_is_said_without_its_reason_and_not_tried_again_until_mended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        shelf.damaged.add("one")
        async with running(shelf) as engine:
            asked = [ask(engine, "one"), ask(engine, "one"), ask(engine, None)]
            first, second, other = await asyncio.gather(*asked, return_exceptions=True)
            for error in (first, second):
                assert isinstance(error, ModelUnavailableError)
                assert "secret" not in str(error)
            assert isinstance(other, Captioned)
            assert "/secret/folder is damaged" in caplog.text
            with pytest.raises(ModelUnavailableError):
                await ask(engine, "one")
            assert shelf.loads["one"] == 1
            shelf.damaged.clear()
            shelf.rejected.clear()
            assert (await ask(engine, "one")).model.name == "one"
            assert shelf.loads["one"] == 2

    run(scenario())


def test_engine_model_that_fails_its_canary_is_not_kept_and_the_engine_stays_ready() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        shelf.captioners["one"].broken = True
        async with running(shelf) as engine:
            with pytest.raises(ModelUnavailableError):
                await ask(engine, "one")
            assert await loaded(engine) == {DEFAULT}
            assert (await ask(engine, None)).model.name == DEFAULT
            shelf.captioners["one"].broken = False
            assert (await ask(engine, "one")).model.name == "one"

    run(scenario())


@pytest.mark.parametrize(
    "fault",
    [OutOfMemoryError("none now"), ImageTooSlowError("too slow"), DecoderLostError("killed")],
)
def test_engine_fault_of_a_decoder_while_a_model_is_proved_is_not_charged_to_the_model(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise fault

    async def scenario() -> None:
        shelf = Shelf("one")
        async with running(shelf) as engine:
            with monkeypatch.context() as patch:
                patch.setattr("app.engine.decode_pool.DecodePool.prepare", fails)
                model = await engine.model("one")
                with pytest.raises(DecoderLostError, match="'one' could not be tried"):
                    await engine.caption(model, image_file(), OPTIONS)
            assert shelf.rejected == {}
            assert (await ask(engine, "one")).model.name == "one"

    run(scenario())


def test_engine_more_waiters_than_may_are_refused_and_all_others_answered() -> None:
    async def scenario() -> None:
        shelf = Shelf("one", "two")
        shelf.may_load.clear()
        async with running(shelf, max_waiting_for_loads=3) as engine:
            waiting = [asyncio.create_task(ask(engine, name)) for name in ("one", "one", "two")]
            await until(lambda: shelf.loads["one"] == 1)
            for name in ("one", "two"):
                with pytest.raises(QueueFullError, match="3 pictures wait for models to load"):
                    await ask(engine, name)
            assert (await ask(engine, None)).model.name == DEFAULT
            shelf.may_load.set()
            assert [(await each).model.name for each in waiting] == ["one", "one", "two"]
            shelf.may_load.clear()
            assert {(await ask(engine, "one")).model.name for _ in range(4)} == {"one"}

    run(scenario())


def test_engine_waiters_that_go_away_leave_their_places() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        shelf.may_load.clear()
        async with running(shelf, max_waiting_for_loads=1) as engine:
            gone = asyncio.create_task(ask(engine, "one"))
            await until(lambda: shelf.loads["one"] == 1)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            patient = asyncio.create_task(ask(engine, "one"))
            await asyncio.sleep(0.05)
            shelf.may_load.set()
            assert (await patient).model.name == "one"

    run(scenario())


def test_engine_wait_for_a_load_counts_in_the_requests_time_and_the_load_goes_on() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        shelf.may_load.clear()
        async with running(shelf, request_timeout_seconds=0.3) as engine:
            with pytest.raises(RequestTimeoutError):
                await ask(engine, "one")
            shelf.may_load.set()
            while "one" not in await loaded(engine):
                await asyncio.sleep(0.005)
            assert (await ask(engine, "one")).model.name == "one"
            assert shelf.loads["one"] == 1

    run(scenario())


def test_engine_look_up_of_a_model_counts_in_the_requests_time() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        async with running(shelf) as engine:
            shelf.may_describe.clear()
            deadline = engine.deadline(0.2)
            with pytest.raises(RequestTimeoutError, match=r"looked up within 0\.2 seconds"):
                await engine.model("one", deadline=deadline)
            assert (await engine.model(None, deadline=deadline)).name == DEFAULT
            shelf.may_describe.set()
            assert (await engine.model("one")).name == "one"

    run(scenario())


def test_engine_caller_that_goes_away_leaves_the_load_to_the_others() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        shelf.may_load.clear()
        async with running(shelf) as engine:
            gone, patient = (asyncio.create_task(ask(engine, "one")) for _ in range(2))
            await until(lambda: shelf.loads["one"] == 1)
            gone.cancel()
            shelf.may_load.set()
            assert (await patient).model.name == "one"
            assert gone.cancelled()

    run(scenario())


def test_engine_stopped_during_a_load_tells_whoever_waits() -> None:
    async def scenario() -> None:
        shelf = Shelf("one", "two")
        shelf.may_load.clear()
        async with running(shelf) as engine:
            waiting = [asyncio.create_task(ask(engine, name)) for name in ("one", "one", "two")]
            await until(lambda: shelf.loads["one"] == 1)
            await engine.stop(drain_seconds=ANSWERED_SECONDS)
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(answer) for answer in answers] == [StoppingError] * 3
            shelf.may_load.set()

    run(scenario())


@pytest.mark.parametrize("slow_seconds", [0.0, ANSWERED_SECONDS])
def test_engine_whose_canary_was_slow_says_what_may_help(
    slow_seconds: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine_module, "_SLOW_CANARY_SECONDS", slow_seconds)

    async def scenario() -> None:
        async with running(Shelf()):
            pass

    run(scenario())
    assert ("GLIMPSE_COMPUTE_THREADS" in caplog.text) == (slow_seconds == 0.0)
