"""Several models in one engine: loaded once and on first use, unloaded by need, failing alone, beside the traffic."""

import asyncio
import gc
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.core.errors import (
    ModelsMemoryFullError,
    ModelUnavailableError,
    NotReadyError,
    QueueFullError,
    RequestTimeoutError,
    StoppingError,
)
from app.core.metrics import Metrics
from app.engine.catalogue import BundleCatalogue, Catalogue
from app.engine.engine import Captioned, CaptionEngine, ModelStatus
from app.engine.fake import FakeCaptioner
from models.captioner import Caption, Captioner, ModelInfo
from models.checkpoint import update_metrics
from models.config import DecodingOptions
from models.errors import CheckpointError, UnknownModelError
from models.preprocessing import DecodeLimits, PreparedImage
from models.shared import MemoryUse
from tests.unit.toys import save_tiny_bundle

DEFAULT = "plain"
OPTIONS = DecodingOptions()
ENCODER = {"encoder": 50}
ANSWERED_SECONDS = 30
ROOMY_BYTES = 10**9


def picture(value: int = 1) -> bytes:
    file = BytesIO()
    Image.new("RGB", (32, 24), (value, 10, 10)).save(file, format="PNG")
    return file.getvalue()


class Sized(FakeCaptioner):
    """Says what memory it takes, remembers its batches, and waits, or fails, where it is told to."""

    def __init__(self, name: str, memory: MemoryUse) -> None:
        super().__init__(name)
        self._info = replace(self._info, memory=memory)
        self.batches: list[int] = []
        self.may_caption = threading.Event()
        self.may_caption.set()
        self.broken = False

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        assert self.may_caption.wait(ANSWERED_SECONDS)
        self.batches.append(len(images))
        if self.broken:
            raise RuntimeError("no such operator")
        return super().caption(images, options)


class Shelf:
    """A catalogue of `Sized` captioners of 100 bytes, 50 of which they share; loads wait, or fail, where told to."""

    def __init__(self, *names: str) -> None:
        self.captioners = {name: Sized(name, MemoryUse(50, ENCODER)) for name in (DEFAULT, *names)}
        self.loads: Counter[str] = Counter()
        self.threads: set[str] = set()
        self.may_load = threading.Event()
        self.may_load.set()
        self.damaged: set[str] = set()
        self.rejected: dict[str, str] = {}

    def names(self) -> list[str]:
        return sorted(self.captioners)

    def describe(self, name: str) -> ModelInfo:
        if name in self.rejected:
            raise CheckpointError(self.rejected[name])
        return self.captioners[name].info

    def reject(self, name: str, reason: str) -> None:
        self.rejected[name] = reason

    def load(self, name: str) -> Captioner:
        self.loads[name] += 1
        self.threads.add(threading.current_thread().name)
        assert name == DEFAULT or self.may_load.wait(ANSWERED_SECONDS)
        if name in self.damaged:
            raise CheckpointError("/secret/folder is damaged")
        return self.captioners[name]


@asynccontextmanager
async def running(catalogue: Catalogue, **changes: Any) -> AsyncIterator[CaptionEngine]:
    options: dict[str, Any] = {
        "default_model": DEFAULT,
        "models_memory_bytes": 1000,
        "max_waiting_for_loads": 200,
        "metrics": Metrics(),
        "limits": DecodeLimits(),
        "decode_threads": 1,
        "overlay_side_pixels": 256,
        "max_batch_size": 8,
        "max_batch_wait_seconds": 0.0,
        "max_queue_size": 200,
        "request_timeout_seconds": ANSWERED_SECONDS,
    }
    engine = await CaptionEngine(catalogue, **(options | changes)).start()
    try:
        await engine.warm_up()
        engine.check_ready()
        yield engine
    finally:
        await engine.stop(drain_seconds=ANSWERED_SECONDS)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, ANSWERED_SECONDS))


async def ask(engine: CaptionEngine, model: str | None, value: int = 1) -> Captioned:
    return await engine.caption(picture(value), OPTIONS, model=model)


async def loaded(engine: CaptionEngine) -> set[str]:
    return {status.name for status in await engine.models() if status.loaded}


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


# -- loading --------------------------------------------------------------------------------------------------------


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
            assert shelf.captioners["one"].batches == [1, 1]  # the canary, then the picture
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


def test_engine_decoding_defaults_of_a_model_that_is_not_loaded_do_not_load_it() -> None:
    async def scenario() -> None:
        shelf = Shelf("one")
        async with running(shelf) as engine:
            assert await engine.decoding_defaults("one") == shelf.describe("one").config.decoding
            with pytest.raises(UnknownModelError, match="Models: one, plain"):
                await engine.decoding_defaults("two")
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


# -- failing --------------------------------------------------------------------------------------------------------


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


def test_engine_more_waiters_than_may_are_refused_and_the_others_and_the_default_models_answered() -> None:
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


# -- memory ---------------------------------------------------------------------------------------------------------


def test_engine_full_memory_unloads_the_least_recently_used_and_never_the_default() -> None:
    async def scenario() -> None:
        shelf = Shelf("one", "two", "three")
        async with running(shelf, models_memory_bytes=200) as engine:  # the encoder and three models
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


def test_engine_model_too_large_for_the_limit_is_refused_with_the_sizes_and_unloads_nothing() -> None:
    async def scenario() -> None:
        shelf = Shelf("one", "large")
        shelf.captioners["large"] = Sized("large", MemoryUse(900_000_000, ENCODER))
        async with running(shelf, models_memory_bytes=500_000_000) as engine:
            await ask(engine, "one")
            with pytest.raises(ModelUnavailableError, match="need 900 MB for models, and it may take 500 MB"):
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
        metrics, shelf = Metrics(), Shelf("one", "two", "bad")
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


# -- the real catalogue ---------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for name in (DEFAULT, "one", "two"):
        save_tiny_bundle(tmp_path / name)
    return tmp_path


def test_engine_unloaded_model_leaves_the_memory(weights: Path) -> None:
    kept: list[weakref.ref[Any]] = []

    class Watched(BundleCatalogue):
        def load(self, name: str) -> Captioner:
            captioner = super().load(name)
            kept.append(weakref.ref(captioner))
            return captioner

    async def scenario() -> None:
        catalogue = Watched(weights, precision="float32")
        one_bytes = catalogue.describe("one").memory.own_bytes
        async with running(catalogue, models_memory_bytes=2 * one_bytes) as engine:
            for name in ("one", "two"):
                await ask(engine, name)
            gc.collect()
            assert [each() is not None for each in kept] == [True, False, True]

    run(scenario())


def test_engine_lists_models_that_are_not_loaded_and_those_that_cannot_be(weights: Path) -> None:
    (weights / "two" / "config.json").write_text("{", encoding="utf-8")

    async def scenario() -> None:
        catalogue = BundleCatalogue(weights, precision="float32")
        async with running(catalogue, models_memory_bytes=ROOMY_BYTES) as engine:
            assert await engine.models() == [
                ModelStatus("one", False, catalogue.describe("one")),
                ModelStatus(DEFAULT, True, catalogue.describe(DEFAULT)),
                ModelStatus("two", False, None),
            ]
            with pytest.raises(ModelUnavailableError):
                await ask(engine, "two")

    run(scenario())


class Counted(BundleCatalogue):
    """Counts the loads, and damages a caption where it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, precision="float32")
        self.loads: Counter[str] = Counter()
        self.wrong: set[str] = set()
        self.refusing: set[str] = set()

    def load(self, name: str) -> Captioner:
        self.loads[name] += 1
        captioner = super().load(name)
        if name in self.refusing:
            raise CheckpointError("cannot be read") from OSError("too many open files")
        return Wrong(captioner) if name in self.wrong else captioner


class Wrong:
    """A captioner whose captions say nothing."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        self.info = captioner.info

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        return self._captioner.prepare(data, limits)

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        return [replace(caption, hypotheses=()) for caption in self._captioner.caption(images, options)]


def test_engine_bundle_that_failed_is_listed_so_and_read_again_only_when_a_file_changed(weights: Path) -> None:
    file = weights / "one" / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    async def scenario() -> None:
        catalogue = Counted(weights)
        async with running(catalogue, models_memory_bytes=ROOMY_BYTES) as engine:
            for _ in range(3):
                with pytest.raises(ModelUnavailableError):
                    await ask(engine, "one")
            assert catalogue.loads["one"] == 1
            assert {status.name for status in await engine.models() if status.info is None} == {"one"}
            assert (await ask(engine, "two")).model.name == "two"
            file.write_bytes(whole)
            assert (await ask(engine, "one")).model.name == "one"
            assert catalogue.loads["one"] == 2

    run(scenario())


def test_engine_bundle_that_fails_its_canary_is_read_again_only_when_a_file_changed(weights: Path) -> None:
    async def scenario() -> None:
        catalogue = Counted(weights)
        catalogue.wrong.add("one")
        async with running(catalogue, models_memory_bytes=ROOMY_BYTES) as engine:
            for _ in range(3):
                with pytest.raises(ModelUnavailableError):
                    await ask(engine, "one")
            assert catalogue.loads["one"] == 1
            catalogue.wrong.clear()
            update_metrics(weights / "one", {"n": 12345})
            assert (await ask(engine, "one")).model.name == "one"

    run(scenario())


def test_engine_load_that_the_system_refused_is_tried_again(weights: Path) -> None:
    async def scenario() -> None:
        catalogue = Counted(weights)
        catalogue.refusing.add("one")
        async with running(catalogue, models_memory_bytes=ROOMY_BYTES) as engine:
            with pytest.raises(ModelUnavailableError):
                await ask(engine, "one")
            catalogue.refusing.clear()
            assert (await ask(engine, "one")).model.name == "one"

    run(scenario())


def test_bundle_catalogue_description_is_read_again_only_when_a_file_changed(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = BundleCatalogue(weights, precision="float32")
    first = catalogue.describe("one")
    assert catalogue.describe("one") is first

    update_metrics(weights / "one", {"n": 12345})
    assert catalogue.describe("one").metrics == {"n": 12345}

    (weights / "one" / "vocab.json").unlink()
    for _ in range(3):
        with pytest.raises(CheckpointError, match=r"lacks vocab\.json"):
            catalogue.describe("one")
    assert caplog.text.count("lacks vocab.json") == 1
