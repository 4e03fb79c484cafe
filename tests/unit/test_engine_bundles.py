"""Real bundles in one engine: gone from memory when unloaded, and read again only when a file of
theirs has changed."""

import gc
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.errors import ModelUnavailableError
from app.engine.catalog import BundleCatalog
from app.engine.engine import ModelStatus
from models.bundles.reading import update_metrics
from models.caption import Caption, Captioner, RuntimeInfo
from models.config import DecodingOptions
from models.errors import CheckpointError
from models.preprocessing import DecodeLimits, PreparedImage
from tests.unit.toy_engine import DEFAULT, ask, run, running
from tests.unit.toys import save_tiny_bundle

ROOMY_BYTES = 10**9


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for name in (DEFAULT, "one", "two"):
        save_tiny_bundle(tmp_path / name)
    return tmp_path


def test_engine_unloaded_model_leaves_the_memory(weights: Path) -> None:
    kept: list[weakref.ref[Any]] = []

    class Watched(BundleCatalog):
        def load(self, name: str) -> Captioner:
            captioner = super().load(name)
            kept.append(weakref.ref(captioner))
            return captioner

    async def scenario() -> None:
        catalog = Watched(weights, precision="float32")
        one_bytes = catalog.describe("one").memory.own_bytes
        async with running(catalog, models_memory_bytes=2 * one_bytes) as engine:
            for name in ("one", "two"):
                await ask(engine, name)
            gc.collect()
            assert [each() is not None for each in kept] == [True, False, True]

    run(scenario())


def test_engine_lists_models_that_are_not_loaded_and_those_that_cannot_be(weights: Path) -> None:
    (weights / "two" / "config.json").write_text("{", encoding="utf-8")

    async def scenario() -> None:
        catalog = BundleCatalog(weights, precision="float32")
        async with running(catalog, models_memory_bytes=ROOMY_BYTES) as engine:
            threads = torch.get_num_threads()
            runtime = RuntimeInfo(
                "torch", torch.__version__, "float32", threads, "it was asked for"
            )
            assert await engine.models() == [
                ModelStatus("one", False, catalog.describe("one")),
                ModelStatus(DEFAULT, True, catalog.describe(DEFAULT), runtime),
                ModelStatus("two", False, None),
            ]
            with pytest.raises(ModelUnavailableError):
                await ask(engine, "two")

    run(scenario())


class Counted(BundleCatalog):
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
        self.runtime = captioner.runtime

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        return self._captioner.prepare(data, limits)

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        return [
            replace(caption, hypotheses=()) for caption in self._captioner.caption(images, options)
        ]


def test_engine_bundle_that_failed_is_listed_so_and_read_again_only_when_a_file_changed(
    weights: Path,
) -> None:
    file = weights / "one" / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    async def scenario() -> None:
        catalog = Counted(weights)
        async with running(catalog, models_memory_bytes=ROOMY_BYTES) as engine:
            for _ in range(3):
                with pytest.raises(ModelUnavailableError):
                    await ask(engine, "one")
            assert catalog.loads["one"] == 1
            assert {status.name for status in await engine.models() if status.info is None} == {
                "one"
            }
            assert (await ask(engine, "two")).model.name == "two"
            file.write_bytes(whole)
            assert (await ask(engine, "one")).model.name == "one"
            assert catalog.loads["one"] == 2

    run(scenario())


def test_engine_bundle_that_fails_its_canary_is_read_again_only_when_a_file_changed(
    weights: Path,
) -> None:
    async def scenario() -> None:
        catalog = Counted(weights)
        catalog.wrong.add("one")
        async with running(catalog, models_memory_bytes=ROOMY_BYTES) as engine:
            for _ in range(3):
                with pytest.raises(ModelUnavailableError):
                    await ask(engine, "one")
            assert catalog.loads["one"] == 1
            catalog.wrong.clear()
            update_metrics(weights / "one", {"n": 12345})
            assert (await ask(engine, "one")).model.name == "one"

    run(scenario())


def test_engine_load_that_the_system_refused_is_tried_again(weights: Path) -> None:
    async def scenario() -> None:
        catalog = Counted(weights)
        catalog.refusing.add("one")
        async with running(catalog, models_memory_bytes=ROOMY_BYTES) as engine:
            with pytest.raises(ModelUnavailableError):
                await ask(engine, "one")
            catalog.refusing.clear()
            assert (await ask(engine, "one")).model.name == "one"

    run(scenario())


def test_bundle_catalog_description_is_read_again_only_when_a_file_changed(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = BundleCatalog(weights, precision="float32")
    first = catalog.describe("one")
    assert catalog.describe("one") is first

    update_metrics(weights / "one", {"n": 12345})
    assert catalog.describe("one").metrics == {"n": 12345}

    (weights / "one" / "vocab.json").unlink()
    for _ in range(3):
        with pytest.raises(CheckpointError, match=r"lacks vocab\.json"):
            catalog.describe("one")
    assert caplog.text.count("lacks vocab.json") == 1
