"""A pool of real decoder processes, files that keep one busy, and what a test does to a process."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from app.core.metrics import Metrics
from app.engine.decode_pool import DecodePool
from models.config import PreprocessConfig
from models.preprocessing import DecodeLimits

ANSWERED_SECONDS = 30.0
SQUEEZE = PreprocessConfig(size_pixels=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def small_file(value: int = 1) -> bytes:
    file = BytesIO()
    Image.new("RGB", (32, 24), (value, 10, 10)).save(file, format="PNG")
    return file.getvalue()


@cache
def slow_file() -> bytes:
    """A progressive JPEG whose last scan is repeated: a second of work, within every limit."""
    file = BytesIO()
    Image.new("L", (6400, 6400), 90).save(file, format="JPEG", progressive=True)
    data = file.getvalue()
    last_scan = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last_scan * 20 + data[-2:]


class Decoders:
    """A running pool, and its processes."""

    def __init__(self, pool: DecodePool, metrics: Metrics) -> None:
        self.pool = pool
        self._metrics = metrics

    def metric(self, name: str, **labels: str) -> float:
        return self._metrics.registry.get_sample_value(name, labels) or 0.0

    async def all_alive(self, count: int) -> set[int]:
        """The processes, once there are so many of them."""
        await until(lambda: self.metric("glimpse_decoder_processes") == count)
        return {process.pid for process in self.pool._keeper._idle}

    def none_idle(self) -> bool:
        """Whether each process has an image to decode."""
        return not self.pool._keeper._idle

    async def working(self) -> int:
        """The one process that decodes, once there is one that has computed a while at it."""
        await until(lambda: self.metric("glimpse_decode_memory_bytes") > 0)
        (pid,) = children()
        return pid


@asynccontextmanager
async def decoding(**changes: Any) -> AsyncIterator[Decoders]:
    settings: dict[str, Any] = {
        "processes": 1,
        "memory_bytes": 2_000_000_000,
        "timeout_seconds": ANSWERED_SECONDS,
        "limits": DecodeLimits(),
    }
    metrics = Metrics()
    pool = DecodePool(**(settings | changes), metrics=metrics)
    pool.start()
    try:
        yield Decoders(pool, metrics)
    finally:
        await pool.stop()


def children() -> set[int]:
    """The decoder processes of this one, zombies too."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            stat = (folder / "stat").read_text(errors="replace")
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        if parent == os.getpid() and (b"_worker" in command or not command):
            found.add(int(folder.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process exists, and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(ANSWERED_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * ANSWERED_SECONDS))


async def decode(decoders: Decoders, data: bytes) -> str:
    """Decode a file, and tell its format."""
    return (await decoders.pool.prepare(data, SQUEEZE)).format


def begin(decoders: Decoders, data: bytes) -> asyncio.Task[str]:
    return asyncio.create_task(decode(decoders, data))


async def result_of(task: asyncio.Task[str]) -> str | BaseException:
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return result
