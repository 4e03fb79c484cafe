"""An engine over models that wait, or fail, where a test tells them to, and what a test asks of
it."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from typing import Any

from PIL import Image

from app.core.metrics import Metrics
from app.engine.catalog import Catalog
from app.engine.engine import Captioned, CaptionEngine, EngineLimits
from app.engine.fake import FakeCaptioner
from models.caption import Caption, Captioner, ModelInfo
from models.config import DecodingOptions
from models.errors import CheckpointError
from models.memory import MemoryUse
from models.preprocessing import DecodeLimits, PreparedImage

DEFAULT = "plain"
OPTIONS = DecodingOptions()
ENCODER = {"encoder": 50}
ANSWERED_SECONDS = 30


def image_file(value: int = 1) -> bytes:
    file = BytesIO()
    Image.new("RGB", (32, 24), (value, 10, 10)).save(file, format="PNG")
    return file.getvalue()


class Sized(FakeCaptioner):
    """Says what memory it takes, remembers its batches, and waits, or fails, where it is told
    to."""

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
    """A catalog of `Sized` captioners of 100 bytes, 50 of which they share; looks and loads wait,
    or fail, where told to."""

    def __init__(self, *names: str) -> None:
        self.captioners = {name: Sized(name, MemoryUse(50, ENCODER)) for name in (DEFAULT, *names)}
        self.loads: Counter[str] = Counter()
        self.threads: set[str] = set()
        self.may_load = threading.Event()
        self.may_load.set()
        self.may_describe = threading.Event()
        self.may_describe.set()
        self.damaged: set[str] = set()
        self.rejected: dict[str, str] = {}

    def names(self) -> list[str]:
        return sorted(self.captioners)

    def describe(self, name: str) -> ModelInfo:
        assert self.may_describe.wait(ANSWERED_SECONDS)
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
async def running(
    catalog: Catalog, metrics: Metrics | None = None, **changes: Any
) -> AsyncIterator[CaptionEngine]:
    limits = EngineLimits(
        models_memory_bytes=1000,
        max_waiting_for_loads=200,
        image=DecodeLimits(),
        decode_processes=1,
        decode_memory_bytes=100_000_000,
        decode_timeout_seconds=ANSWERED_SECONDS,
        overlay_side_pixels=256,
        max_batch_size=8,
        max_batch_wait_seconds=0.0,
        max_queue_size=200,
        request_timeout_seconds=ANSWERED_SECONDS,
    )
    engine = CaptionEngine(
        catalog,
        default_model=DEFAULT,
        limits=replace(limits, **changes),
        metrics=metrics or Metrics(),
    )
    await engine.start()
    try:
        await engine.warm_up()
        engine.check_ready()
        yield engine
    finally:
        await engine.stop(drain_seconds=ANSWERED_SECONDS)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, ANSWERED_SECONDS))


async def ask(engine: CaptionEngine, model: str | None, value: int = 1) -> Captioned:
    return await engine.caption(await engine.model(model), image_file(value), OPTIONS)


async def loaded(engine: CaptionEngine) -> set[str]:
    return {status.name for status in await engine.models() if status.loaded}


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)
