"""Several models in one engine: loaded once and on first use, unloaded by need, beside the
traffic."""

import asyncio

import pytest

from app.core.errors import ModelsMemoryFullError, ModelUnavailableError, NotReadyError
from app.core.metrics import Metrics
from app.engine.engine import Captioned
from models.caption import Captioner
from models.errors import UnknownModelError
from models.memory import MemoryUse
from tests.unit.toy_engine import DEFAULT, ENCODER, Shelf, Sized, ask, loaded, run, running, until

# -- loading ----


def test_engine_hundred_first_requests_load_the_model_once() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        async with running(shelf) as engine:
            answers = await asyncio.gather(*(ask(engine, "one", value) for value in range(100)))
            assert {answer.model.name for answer in answers} == {"one"}
            assert shelf.loads == {DEFAULT: 1, "one": 1}

    run(scenario())


def test_engine_traffic_of_the_default_model_goes_on_while_another_loads() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        shelf.may_load.clear()
        async with running(shelf) as engine:
            waiting = asyncio.create_task(ask(engine, "one"))
            await until(lambda: shelf.loads["one"] == 1)
            for value in range(5):
                assert (await ask(engine, None, value)).model.name == DEFAULT
            assert not waiting.done()
            assert await loaded(engine) == {DEFAULT}
            shelf.may_load.set()
            assert (await waiting).model.name == "one"
            assert not any(name.startswith("inference") for name in shelf.threads)

    run(scenario())


def test_engine_new_model_answers_only_after_its_canary() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        shelf.captioners["one"].may_caption.clear()
        async with running(shelf) as engine:
            waiting = asyncio.create_task(ask(engine, "one"))
            await until(lambda: shelf.loads["one"] == 1)
            assert await loaded(engine) == {DEFAULT}
            shelf.captioners["one"].may_caption.set()
            await waiting
            assert shelf.captioners["one"].batches == [1, 1]  # the canary, then the image
            assert await loaded(engine) == {DEFAULT, "one"}

    run(scenario())


def test_engine_one_batch_runs_each_model_by_itself_and_keeps_the_order() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        async with running(shelf, max_batch_wait_seconds=1.0, max_batch_size=4) as engine:
            await asyncio.gather(*(ask(engine, "one") for _ in range(4)))
            for captioner in shelf.captioners.values():
                captioner.batches.clear()
            models = ["one", None, "one", None]
            answers = await asyncio.gather(*(ask(engine, model) for model in models))
            assert [answer.model.name for answer in answers] == ["one", DEFAULT, "one", DEFAULT]
            assert [captioner.batches for captioner in shelf.captioners.values()] == [[2], [2]]

    run(scenario())


def test_engine_look_up_of_a_model_that_is_not_loaded_does_not_load_it() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        async with running(shelf) as engine:
            model = await engine.model("one")
            assert (model.name, model.info) == ("one", shelf.describe("one"))
            assert model.decoding == model.info.config.decoding
            with pytest.raises(UnknownModelError, match="Models: one, plain"):
                await engine.model("two")
            assert shelf.loads["one"] == 0

    run(scenario())


def test_engine_not_ready_loads_nothing() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        shelf.captioners[DEFAULT].broken = True
        with pytest.raises(NotReadyError):
            async with running(shelf):
                pass
        assert shelf.loads == {DEFAULT: 1}

    run(scenario())


# -- memory ----


def test_engine_full_memory_unloads_the_least_recently_used_and_never_the_default() -> None:
    async def scenario() -> None:
        shelf = Shelf("one", "two", "three")
        async with running(
            shelf, models_memory_bytes=200
        ) as engine:  # the encoder and three models
            for name in ("one", "two", "one", "three"):
                await ask(engine, name)
            assert await loaded(engine) == {DEFAULT, "one", "three"}
            await ask(engine, "two")
            assert await loaded(engine) == {DEFAULT, "three", "two"}
            await ask(engine, DEFAULT)
            assert shelf.loads == {DEFAULT: 1, "one": 1, "two": 2, "three": 1}

    run(scenario())


def test_engine_memory_limit_that_just_holds_unloads_nothing_and_one_byte_less_does() -> None:
    async def scenario(limit_bytes: int, kept: set[str]) -> None:
        async with running(Shelf("one", "two"), models_memory_bytes=limit_bytes) as engine:
            for name in ("one", "two"):
                await ask(engine, name)
            assert await loaded(engine) == kept

    run(scenario(200, {DEFAULT, "one", "two"}))
    run(scenario(199, {DEFAULT, "two"}))


def test_engine_model_in_use_is_not_unloaded_and_the_other_is_refused_for_now() -> None:
    async def scenario() -> None:
        shelf = Shelf("one", "two")
        async with running(shelf, models_memory_bytes=150) as engine:
            await ask(engine, "one")
            shelf.captioners["one"].may_caption.clear()
            using = asyncio.create_task(ask(engine, "one"))
            await asyncio.sleep(0)
            with pytest.raises(ModelsMemoryFullError, match="Try again"):
                await ask(engine, "two")
            assert await loaded(engine) == {DEFAULT, "one"}
            assert shelf.loads["two"] == 0
            shelf.captioners["one"].may_caption.set()
            assert (await using).model.name == "one"
            assert (await ask(engine, "two")).model.name == "two"
            assert await loaded(engine) == {DEFAULT, "two"}

    run(scenario())


def test_engine_model_that_others_wait_for_counts_as_used() -> None:
    async def scenario() -> None:
        shelf = Shelf("one", "two")
        async with running(shelf, models_memory_bytes=150) as engine:
            answers = await asyncio.gather(
                *(ask(engine, name) for name in ("one", "one", "two")), return_exceptions=True
            )
            assert [isinstance(answer, Captioned) for answer in answers[:2]] == [True, True]

    run(scenario())


def test_engine_model_too_large_for_the_limit_is_refused_with_the_sizes_and_unloads_nothing() -> (
    None
):
    async def scenario() -> None:
        shelf = Shelf("one", "large")
        shelf.captioners["large"] = Sized("large", MemoryUse(900_000_000, ENCODER))
        async with running(shelf, models_memory_bytes=500_000_000) as engine:
            await ask(engine, "one")
            with pytest.raises(
                ModelUnavailableError, match="need 900 MB for models, and it may take 500 MB"
            ):
                await ask(engine, "large")
            assert await loaded(engine) == {DEFAULT, "one"}

    run(scenario())


def test_engine_no_memory_for_models_serves_the_default_alone() -> None:
    async def scenario() -> None:
        async with running(Shelf("one"), models_memory_bytes=0) as engine:
            assert (await ask(engine, None)).model.name == DEFAULT
            with pytest.raises(ModelUnavailableError):
                await ask(engine, "one")

    run(scenario())


def test_engine_metrics_count_loads_and_unloads_and_name_the_loaded_models() -> None:
    async def scenario() -> None:
        metrics = Metrics()
        shelf = Shelf("one", "two", "bad")
        shelf.damaged.add("bad")
        async with running(shelf, models_memory_bytes=150, metrics=metrics) as engine:
            await ask(engine, "one")
            await ask(engine, "two")
            with pytest.raises(ModelUnavailableError):
                await ask(engine, "bad")
        text = metrics.render().decode()
        digests = {name: captioner.info.digest for name, captioner in shelf.captioners.items()}
        assert f'glimpse_model_info{{digest="{digests[DEFAULT]}",name="plain"}} 1.0' in text
        assert digests["one"] not in text
        for line in (
            'glimpse_model_loads_total{name="plain",outcome="loaded"} 1.0',
            'glimpse_model_loads_total{name="two",outcome="loaded"} 1.0',
            'glimpse_model_loads_total{name="bad",outcome="failed"} 1.0',
            'glimpse_model_unloads_total{name="one"} 1.0',
            "glimpse_model_load_seconds_count 3.0",
        ):
            assert line in text

    run(scenario())


class Fatal(Shelf):
    """Has a model whose load ends the thread that loads."""

    def load(self, name: str) -> Captioner:
        if name == "fatal":
            raise SystemExit(7)
        return super().load(name)


def test_load_that_ends_its_thread_fails_alone_and_the_next_one_works() -> None:
    async def scenario() -> None:
        async with running(Fatal("fatal", "other")) as engine:
            with pytest.raises(ModelUnavailableError):
                await ask(engine, "fatal")
            assert (await ask(engine, "other")).model.name == "other"

    run(scenario())
