"""The service under load for half an hour: does it keep its promises, and does anything grow?

    python -m benchmarks.soak [--minutes 30] [--share 0.8] [--chart docs/images/soak.png]
    make soak ARGS="--minutes 5"

A closed loop of 32 clients finds the saturation in requests a second. Then requests of the same mix
arrive at random at a share of it: photos, one in ten a bad file, one in twenty a client that hangs
up in the middle of its upload or before its answer, one in twenty a drawing of the maps. Every few
seconds memory, threads and descriptors of the service and its children are read. Every answer must
be the right one or a 503. The load generator takes its share of the same processor, so the
saturation is that of the two together. Prints a table for people; the last line of standard output
is one JSON document.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.soak.charts import draw
from benchmarks.soak.client import Outcome
from benchmarks.soak.files import bad_uploads, good_uploads
from benchmarks.soak.load import Mix, closed_loop, open_loop
from benchmarks.soak.server import Sample, Server, free_port, serving

CLIENTS = 32
SATURATION_SECONDS = 120.0
WARM_UP_SHARE = 0.2  # of the samples: caches and pools fill
IDLE_SECONDS = 30.0
SAMPLE_SECONDS = 5.0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Load the service for long, and watch it.")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the load lasts")
    parser.add_argument("--share", type=float, default=0.8, help="of the saturation")
    parser.add_argument("--chart", type=Path, help="where to draw it, as PNG")
    return parser.parse_args()


async def soak(
    server: Server, minutes: float, share: float
) -> tuple[float, list[Sample], list[Outcome]]:
    """Load a service; give its saturation in requests a second, and all that was seen."""
    mix = Mix(good_uploads(), bad_uploads())
    await closed_loop(server.port, mix, clients=4, seconds=20.0)  # warm
    saturation = await closed_loop(server.port, mix, clients=CLIENTS, seconds=SATURATION_SECONDS)
    print(f"saturation: {saturation:.1f} requests/s", file=sys.stderr)
    samples: list[Sample] = []
    outcomes: list[Outcome] = []
    watching = asyncio.create_task(_watch(server, samples))
    await open_loop(
        server.port,
        mix,
        per_second=share * saturation,
        seconds=minutes * 60,
        tell=outcomes.append,
    )
    watching.cancel()
    await asyncio.sleep(IDLE_SECONDS)
    samples.append(server.sample())  # idle again
    return saturation, samples, outcomes


async def _watch(server: Server, samples: list[Sample]) -> None:
    while True:
        samples.append(server.sample())
        await asyncio.sleep(SAMPLE_SECONDS)


def growth(samples: Sequence[Sample], field: str) -> float:
    """Fit a line to a field of the samples after the warm-up: its rise an hour."""
    kept = samples[round(len(samples) * WARM_UP_SHARE) :]
    hours = [sample.seconds / 3600 for sample in kept]
    values = [float(getattr(sample, field)) for sample in kept]
    return float(np.polyfit(hours, values, 1)[0])


def report(
    server: Server, saturation: float, samples: Sequence[Sample], outcomes: Sequence[Outcome]
) -> dict[str, object]:
    """Put what was seen into figures."""
    loaded = samples[:-1]
    caption_seconds = [outcome.seconds for outcome in outcomes if outcome.captioned]
    percentiles = np.percentile(caption_seconds, [50, 95, 99])
    undeclared = Counter(
        f"{outcome.upload.name}: {outcome.status}" for outcome in outcomes if outcome.undeclared
    )
    return {
        "saturation_per_second": round(saturation, 2),
        "requests": len(outcomes),
        "statuses": dict(sorted(Counter(outcome.status for outcome in outcomes).items())),
        "hung_up": sum(outcome.hung_up for outcome in outcomes),
        "undeclared": dict(undeclared),
        "p50_seconds": round(float(percentiles[0]), 4),
        "p95_seconds": round(float(percentiles[1]), 4),
        "p99_seconds": round(float(percentiles[2]), 4),
        "memory_megabytes_first": round(loaded[0].memory_bytes / 1e6, 1),
        "memory_megabytes_most": round(max(each.memory_bytes for each in loaded) / 1e6, 1),
        "memory_megabytes_idle_again": round(samples[-1].memory_bytes / 1e6, 1),
        "memory_growth_megabytes_an_hour": round(growth(loaded, "memory_bytes") / 1e6, 2),
        "threads_growth_an_hour": round(growth(loaded, "threads"), 2),
        "descriptors_growth_an_hour": round(growth(loaded, "descriptors"), 2),
        "threads_most": max(each.threads for each in loaded),
        "descriptors_most": max(each.descriptors for each in loaded),
        "descriptors_idle_again": samples[-1].descriptors,
        "log_errors": server.log_lines("error") + server.log_lines("critical"),
    }


def main() -> None:
    """Run the soak and print its figures."""
    chosen = arguments()
    with serving(free_port()) as server:
        saturation, samples, outcomes = asyncio.run(soak(server, chosen.minutes, chosen.share))
        figures = report(server, saturation, samples, outcomes)
        figures["exit_status"] = server.stop()
    if chosen.chart is not None:
        draw(samples, outcomes, chosen.chart)
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):36} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
