"""One load on a running server, from its beginning to its figures. Knows no plan of loads."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load_figures import (
    LoadFigures,
    cores_used,
    load_figures,
    mean_of,
    megabytes_most,
    window_of,
)
from benchmarks.soak.client import Outcome
from benchmarks.soak.load import Mix, closed_loop, open_loop
from benchmarks.soak.server import Sample, Server

__all__ = ["MeasuredLoad", "closed", "opened", "parse_metrics", "read_metrics"]

_SAMPLE_SECONDS = 0.25
_TIMEOUT_SECONDS = 30.0
_OVERFILL = 1.5


@dataclass(frozen=True, slots=True)
class MeasuredLoad:
    """A load, and what it came to.

    name: for people. offered_per_second: None in a closed loop, whose clients wait for answers.
    mean_batch: images captioned together. decode_seconds, queue_seconds: a photo's means.
    batch_seconds: the mean of a batch. cores: busy for the server and its decoders.
    resident_megabytes: of all its processes; what they have in common counts in each.
    """

    name: str
    offered_per_second: float | None
    figures: LoadFigures
    mean_batch: float | None
    decode_seconds: float | None
    queue_seconds: float | None
    batch_seconds: float | None
    cores: float | None
    resident_megabytes: float | None

    def document(self) -> dict[str, Any]:
        """Give all of it on one level, for JSON."""
        parts: dict[str, Any] = asdict(self)
        figures: dict[str, Any] = parts.pop("figures")
        return parts | figures


@dataclass(slots=True)
class _Watch:
    """What is seen of a server while a load lasts."""

    before: dict[str, float]
    after: dict[str, float] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def measured(
        self, name: str, offered: float | None, window: tuple[float, float]
    ) -> MeasuredLoad:
        """Put it into figures."""
        return MeasuredLoad(
            name=name,
            offered_per_second=offered,
            figures=load_figures(self.outcomes, window),
            mean_batch=mean_of("glimpse_batch_size", self.before, self.after),
            decode_seconds=mean_of("glimpse_decode_seconds", self.before, self.after),
            queue_seconds=mean_of("glimpse_queue_seconds", self.before, self.after),
            batch_seconds=mean_of("glimpse_inference_seconds", self.before, self.after),
            cores=cores_used(self.samples),
            resident_megabytes=megabytes_most(self.samples),
        )


async def closed(server: Server, mix: Mix, *, clients: int, seconds: float) -> MeasuredLoad:
    """Let so many clients each send a request when their last one is answered."""
    began = time.monotonic()
    async with _watching(server) as watch:
        await closed_loop(
            server.port, mix, clients=clients, seconds=seconds, tell=watch.outcomes.append
        )
    window = window_of(began, began + seconds)
    name = "1 client" if clients == 1 else f"{clients} clients"
    return watch.measured(name, None, window)


async def opened(
    server: Server, mix: Mix, *, share: float, saturation: float, seconds: float
) -> MeasuredLoad:
    """Let requests arrive at random, at a share of the saturation in requests a second.

    Past saturation, more than that arrive at first, so that the queue is full when the window that
    is judged begins: on its own it would take half a minute to fill.
    """
    began = time.monotonic()
    window = window_of(began, began + seconds)
    async with _watching(server) as watch:
        tell = watch.outcomes.append
        loads = [
            open_loop(server.port, mix, per_second=share * saturation, seconds=seconds, tell=tell)
        ]
        if share > 1.0:
            settling = window[0] - began
            places = watch.before.get("glimpse_queue_limit", 0.0)
            filling = saturation + _OVERFILL * places / settling
            loads.append(
                open_loop(server.port, mix, per_second=filling, seconds=settling, tell=tell)
            )
        await asyncio.gather(*loads)
    return watch.measured(f"{share:.0%}", share * saturation, window)


def parse_metrics(text: str) -> dict[str, float]:
    """Read Prometheus' text format: values by name, summed over their labels, without buckets."""
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if "le" not in sample.labels:
                values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values


def read_metrics(port: int) -> dict[str, float]:
    """Read the metrics of the service at a port; none of a server that has none."""
    with (
        suppress(OSError),
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_TIMEOUT_SECONDS) as answer,
    ):
        return parse_metrics(answer.read().decode())
    return {}


@asynccontextmanager
async def _watching(server: Server) -> AsyncIterator[_Watch]:
    watch = _Watch(before=await asyncio.to_thread(read_metrics, server.port))
    sampling = asyncio.create_task(_sample(server, watch.samples))
    try:
        yield watch
    finally:
        sampling.cancel()
    watch.after = await asyncio.to_thread(read_metrics, server.port)


async def _sample(server: Server, samples: list[Sample]) -> None:
    while True:
        samples.append(server.sample())
        await asyncio.sleep(_SAMPLE_SECONDS)
