"""Milliseconds a photo, one at a time through the whole engine: with one thread that computes, and
with loads that compute in a team of threads of their own.

    python -m benchmarks.one_thread [MODEL] [--other nic] [--photos 60] [--seconds 60] [--threads N]

A photo that comes alone is the hardest case: nothing overlaps. What limits the figure is the
encoder; around it stand decoding, the search, and the two changes of thread. Each case is a process
of its own, as a team of threads stays until its process ends: `one team` is what is served, `two
teams` lets the load thread compute with as many threads as the inference thread has, as it would
without `prepare_loading_thread`. As soon as OpenMP has more threads than processors, none of them
waits actively, and each parallel region begins with waking them. The processes take turns as long
as the time allows, once at least, and the fastest median of each counts, as other programs on the
machine disturb both; on a machine that is busy with others the figures say nothing. Prints a table
for people; the last line of standard output is one JSON document.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

from app.core.metrics import Metrics
from app.core.settings import Settings
from app.engine import build
from benchmarks.photos import made_up_jpeg
from benchmarks.reports import ROOT

CASES = ("one team", "two teams")
PARTS = ("total", "decode", "queue", "compute")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure one photo at a time over the engine.")
    parser.add_argument("model", nargs="?", default="glimpse")
    parser.add_argument("--other", default="nic", help="loaded beside it, before it is measured")
    parser.add_argument("--photos", type=int, default=60, help="in each process")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for all together")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--case", choices=CASES, help="one of the two, in this process")
    return parser.parse_args()


async def measure(asked: argparse.Namespace) -> dict[str, float]:
    """Give the medians of a photo's parts, in milliseconds, in this process."""
    image = made_up_jpeg(1280, 960)
    settings = Settings(model=asked.model, compute_threads=asked.threads)
    engine = await build.build_engine(settings, Metrics()).start()
    await engine.warm_up()
    other = await engine.model(asked.other)
    await engine.caption(other, image, other.decoding)
    model = await engine.model(asked.model)
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(asked.photos):
        started = perf_counter()
        answer = await engine.caption(model, image, model.decoding)
        times["total"].append(perf_counter() - started)
        times["decode"].append(answer.decode_seconds)
        times["queue"].append(answer.queue_seconds)
        times["compute"].append(answer.compute_seconds)
    threads = len(list(Path("/proc/self/task").iterdir()))
    await engine.stop(drain_seconds=5.0)
    medians = {part: 1000 * statistics.median(values) for part, values in times.items()}
    return medians | {"system_threads": float(threads)}


def in_a_process(asked: argparse.Namespace, case: str) -> dict[str, float]:
    """Measure a case in a process of its own."""
    options = {
        "--other": asked.other,
        "--photos": str(asked.photos),
        "--threads": str(asked.threads),
        "--case": case,
    }
    words = [word for option in options.items() for word in option]
    command = [sys.executable, "-m", "benchmarks.one_thread", asked.model, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure both cases in turns; give each one's fastest round."""
    rounds: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    started = perf_counter()
    while not rounds[CASES[0]] or perf_counter() - started < asked.seconds:
        for case in CASES:
            rounds[case].append(in_a_process(asked, case))
    return {case: min(found, key=lambda each: each["total"]) for case, found in rounds.items()}


def main() -> None:
    """Measure, print the table, and end with the JSON document."""
    asked = arguments()
    if asked.case is not None:
        if asked.case == "two teams":
            as_many = partial(torch.set_num_threads, asked.threads)
            setattr(build, "prepare_loading_thread", as_many)  # noqa: B010  mypy: it is not exported
        print(json.dumps(asyncio.run(measure(asked))))
        return
    found = compare(asked)
    print(f"{'milliseconds a photo':22}" + "".join(f"{part:>10}" for part in PARTS))
    for case, medians in found.items():
        print(f"{case:22}" + "".join(f"{medians[part]:10.2f}" for part in PARTS))
    document = {
        "benchmark": "one_thread",
        "model": asked.model,
        "photos": asked.photos,
        "threads": asked.threads,
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "milliseconds_per_photo": {
            case: {part: round(value, 3) for part, value in medians.items()}
            for case, medians in found.items()
        },
    }
    sys.stdout.flush()
    print(json.dumps(document))


if __name__ == "__main__":
    main()
