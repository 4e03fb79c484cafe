"""The service under load: how fast it answers, how much it captions, and what it does past that.

    python -m benchmarks.serve [--seconds 90] [--beam-size 3] [--charts docs/images]

A real server on loopback, with its default settings and those of the environment, and the load
from this other process. First the runtime alone (`benchmarks/bare.py`), then one client that waits
for each answer, then a closed loop of 32, which finds the saturation. Then requests arrive at
random at fixed shares of it, whether or not earlier ones are answered, up to one and a half times
as many as it can answer. Every load counts without its first fifth; the throughput of saturation
and past it is from the first request to the last answer, as a window may cut a batch off.

What limits the saturated throughput is the runtime's arithmetic at its best batch size, and all
that takes processor time beside it: decoding files, HTTP, Python, and the load generator itself,
which has the same processors. What limits one photo at a time is the runtime at a batch of one and
the way there: decoding, two changes of thread, one process more. Latency under load is mostly
waiting for the batch that runs, and for the next one.

Prints a table for people; the last line of standard output is one JSON document.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.load_figures import ratio
from benchmarks.offered_load import MeasuredLoad, closed, opened
from benchmarks.photos import photo_uploads
from benchmarks.reports import rounded, run_module, show, table
from benchmarks.serve_charts import draw
from benchmarks.soak.load import Mix
from benchmarks.soak.server import Server, free_port, serving

CLIENTS = 32
SHARES = (0.25, 0.5, 0.7, 0.9, 1.5)
LATE_SHARE, OVERLOAD_SHARE = 0.7, 1.5
# Of the whole time: the runtime alone, warming up, one client, and saturation; the shares have
# the rest.
BARE_PART, WARM_PART, ALONE_PART, SATURATION_PART = 0.14, 0.04, 0.1, 0.16


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Load the service, and measure its answers.")
    parser.add_argument("--seconds", type=float, default=90.0, help="time for all loads together")
    parser.add_argument("--beam-size", type=int, default=3)
    parser.add_argument("--clients", type=int, default=CLIENTS, help="that saturate it")
    parser.add_argument("--charts", type=Path, help="a folder to draw the charts into, as PNG")
    return parser.parse_args()


async def measure(server: Server, asked: argparse.Namespace) -> list[MeasuredLoad]:
    """Measure one client, the saturation, and each share of it, in this order."""
    path = f"/caption?beam_size={asked.beam_size}"
    mix = Mix(photo_uploads(), (), bad_share=0.0, hang_up_share=0.0, drawings=0.0, path=path)
    parts = (BARE_PART, WARM_PART, ALONE_PART, SATURATION_PART)
    each = asked.seconds * (1 - sum(parts)) / len(SHARES)
    await closed(server, mix, clients=4, seconds=WARM_PART * asked.seconds)
    alone = await closed(server, mix, clients=1, seconds=ALONE_PART * asked.seconds)
    saturated = await closed(
        server, mix, clients=asked.clients, seconds=SATURATION_PART * asked.seconds
    )
    saturation = saturated.figures.sustained_per_second
    if not saturation:
        raise RuntimeError("The service captioned nothing; give it more time with --seconds.")
    loads = [alone, saturated]
    for share in SHARES:
        loads.append(await opened(server, mix, share=share, saturation=saturation, seconds=each))
    return loads


def judge(
    loads: Sequence[MeasuredLoad], seconds_per_photo: Mapping[str, float]
) -> dict[str, float | None]:
    """Give the figures that the service is held to.

    loads: as `measure` gives them. seconds_per_photo: of the runtime alone, by the batch size.
    """
    alone, saturated, *shares = loads
    by_share = dict(zip(SHARES, shares, strict=True))
    late, overload = by_share[LATE_SHARE].figures, by_share[OVERLOAD_SHARE].figures
    peak = saturated.figures.sustained_per_second
    p50 = alone.figures.p50_seconds
    best = min(seconds_per_photo.values(), default=None)
    resident = [load.resident_megabytes for load in loads if load.resident_megabytes is not None]
    return {
        "captioned_per_second": peak,
        "p50_seconds": p50,
        "share_of_ideal": None if best is None else peak * best,
        "p50_vs_bare": ratio(p50, seconds_per_photo.get("1")),
        "p99_at_70_percent_vs_p50": ratio(late.p99_seconds, p50),
        "overload_throughput_share": ratio(overload.sustained_per_second, peak),
        "refusal_p99_seconds": overload.refusal_p99_seconds,
        "resident_megabytes": max(resident, default=None),
    }


def show_loads(loads: Sequence[MeasuredLoad]) -> str:
    """Write the table of all loads."""
    header = [
        "load",
        "offered/s",
        "captioned/s",
        "until drained",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "refused/s",
    ]
    header += ["in ms (p99)", "batch", "decode ms", "queue ms", "batch ms", "cores", "MB"]
    rows = []
    for load in loads:
        each = load.figures
        row = [load.name, show(load.offered_per_second, 1), show(each.captioned_per_second, 1)]
        row.append(show(each.sustained_per_second, 1))
        for seconds in (each.p50_seconds, each.p95_seconds, each.p99_seconds):
            row.append(show(seconds, 0, 1000))
        row += [show(each.refused_per_second, 1), show(each.refusal_p99_seconds, 1, 1000)]
        row.append(show(load.mean_batch, 1))
        for seconds in (load.decode_seconds, load.queue_seconds, load.batch_seconds):
            row.append(show(seconds, 1, 1000))
        row += [show(load.cores), show(load.resident_megabytes, 0)]
        rows.append(row)
    return table(header, rows)


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; print the tables, draw the charts, and give the document."""
    seconds = str(BARE_PART * asked.seconds)
    bare = run_module("benchmarks.bare", "--beam-size", str(asked.beam_size), "--seconds", seconds)
    with serving(free_port()) as server:
        loads = asyncio.run(measure(server, asked))
        exit_status = server.stop()
    judged = judge(loads, bare["seconds_per_photo"])
    print(show_loads(loads), end="\n\n")
    for name, value in judged.items():
        print(f"{name.replace('_', ' '):28}{show(value, 3):>10}")
    if asked.charts is not None:
        draw(loads, asked.charts)
    return {
        "benchmark": "serve",
        "beam_size": asked.beam_size,
        "runtime": bare["runtime"],
        **judged,
        "bare_seconds_per_photo": bare["seconds_per_photo"],
        "loads": [load.document() for load in loads],
        "failed": sum(load.figures.failed for load in loads),
        "exit_status": exit_status,
    }


def main() -> None:
    """Measure, print the table, and end with the JSON document."""
    document = run(arguments())
    sys.stdout.flush()
    print(json.dumps(rounded(document)))


if __name__ == "__main__":
    main()
