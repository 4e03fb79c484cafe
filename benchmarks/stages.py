"""Milliseconds a photo, stage by stage: from the file to the pixels, the encoder, each step of the
decoder, the beam search, the drawing and the JSON.

    python -m benchmarks.stages [MODEL] [--seconds 45] [--batches 1 4 16 32] [--beam-size 3]
                                [--runtimes "torch float32"] [--clock cpu]

Decoding a JPEG is limited by Huffman codes, one after another, and by the pixels that are made only
to be resized away; the encoder by multiplications, of which a batch makes larger ones; a step of
the decoder by the weights that it reads from memory for few rows, and by what Python spends on each
of its operations; the search by as many steps as the longest caption has, and by sorting scores
over the vocabulary. A photo in a decoder process costs the way there and back on top.

Every case is measured once a round, the rounds as many as the time allows, and the median counts:
what disturbs the machine for a while disturbs all cases alike. Prints tables for people; the last
line of standard output is one JSON document.
"""

import argparse
import asyncio
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from app.core.metrics import Metrics
from app.engine.decode_pool import DecodePool
from benchmarks.load_figures import ratio
from benchmarks.photos import photos
from benchmarks.reports import rounded, show, table
from benchmarks.stage_cases import RUNTIMES, Case, file_cases, load_runtime, network_cases
from models.config import DecodingOptions, PreprocessConfig
from models.preprocessing import DecodeLimits

BATCHES = (1, 4, 16, 32)
LEAST_ROUNDS = 2
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PROCESS_PART = 0.1  # of the time, for the decoder process
PROCESS_MEMORY_BYTES = 800_000_000
Milliseconds = dict[tuple[str, str], float]  # by stage and column


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure what a caption costs, by stages.")
    parser.add_argument("model", nargs="?", default="glimpse")
    parser.add_argument("--seconds", type=float, default=45.0, help="time for all cases together")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--beam-size", type=int, default=3)
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument("--threads", type=int, help="of PyTorch; else its own choice")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: of all threads together, where others use the machine too",
    )
    return parser.parse_args()


def build_cases(asked: argparse.Namespace) -> list[Case]:
    """Give every case; the search is that of the first runtime of each library.

    Precisions of one library differ in the encoder alone.
    """
    cases: list[Case] = []
    libraries: set[str] = set()
    for name in asked.runtimes:
        loaded = load_runtime(name, asked.model)
        own = loaded.captioner.info.config.decoding.model_dump()
        options = DecodingOptions(**own | {"beam_size": asked.beam_size, "num_captions": 1})
        if not cases:
            cases += file_cases(loaded, options)
        library = name.partition(" ")[0]
        cases += network_cases(loaded, asked.batches, options, search=library not in libraries)
        libraries.add(library)
    return cases


def measure(
    cases: Sequence[Case], seconds: float, clock: Callable[[], float]
) -> tuple[Milliseconds, int]:
    """Give the median milliseconds a photo of each case, and the number of rounds."""
    times: dict[tuple[str, str], list[float]] = {(case.stage, case.column): [] for case in cases}
    end = time.perf_counter() + seconds
    rounds = -1  # the first warms up
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        for case in cases:
            started = clock()
            case.call()
            if rounds >= 0:
                spent = 1000 * (clock() - started) / case.images
                times[case.stage, case.column].append(spent)
        rounds += 1
    return {name: statistics.median(values) for name, values in times.items()}, rounds


async def in_a_process(preprocess: PreprocessConfig, seconds: float) -> float:
    """Give the median milliseconds of a photo in a decoder process of the service."""
    pool = DecodePool(
        DecodeLimits(),
        processes=1,
        memory_bytes=PROCESS_MEMORY_BYTES,
        timeout_seconds=60.0,
        metrics=Metrics(),
    )
    pool.start()
    data = photos()[0]
    times: list[float] = []
    end = time.perf_counter() + seconds
    await pool.prepare(data, preprocess)  # the process is there
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        await pool.prepare(data, preprocess)
        times.append(1000 * (time.perf_counter() - started))
    await pool.stop()
    return statistics.median(times)


def beam_doubling_cost(measured: Mapping[tuple[str, str], float], beam_size: int) -> float | None:
    """Relate the search with twice the beams to that with `beam_size`, at the largest batch."""
    columns = [column for stage, column in measured if stage == f"beam search, beam {beam_size}"]
    if not columns:
        return None
    last = columns[-1]
    once = measured.get((f"beam search, beam {beam_size}", last))
    return ratio(measured.get((f"beam search, beam {2 * beam_size}", last)), once)


def show_tables(measured: Mapping[tuple[str, str], float], batches: Sequence[int]) -> str:
    """Write a table of what has no batches, and one of what has."""
    single = [
        [f"{stage} {column}".strip(), show(value)]
        for (stage, column), value in measured.items()
        if ", batch " not in column
    ]
    rows: dict[str, list[str]] = {}
    for (stage, column), value in measured.items():
        runtime, batched, _ = column.partition(", batch ")
        if batched:
            rows.setdefault(f"{stage}, {runtime}", []).append(show(value))
    header = ["ms a photo", *(f"batch {size}" for size in batches)]
    batched_rows = [[name, *values] for name, values in rows.items()]
    return f"{table(['one photo', 'ms'], single)}\n\n{table(header, batched_rows)}"


def describe(asked: argparse.Namespace, rounds: int) -> dict[str, Any]:
    """Say what was measured, and on what."""
    return {
        "benchmark": "stages",
        "model": asked.model,
        "beam_size": asked.beam_size,
        "batches": asked.batches,
        "rounds": rounds,
        "clock": asked.clock,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure, print the tables, and end with the JSON document."""
    asked = arguments()
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    cases = build_cases(asked)
    seconds = (1 - PROCESS_PART) * asked.seconds
    measured, rounds = measure(cases, seconds, CLOCKS[asked.clock])
    squeeze = PreprocessConfig(size_pixels=224, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    process = asyncio.run(in_a_process(squeeze, PROCESS_PART * asked.seconds))
    measured["decode and resize", "500 x 375, in a process"] = process
    cost = beam_doubling_cost(measured, asked.beam_size)
    print(f"{asked.model}, {torch.get_num_threads()} thread(s), {asked.clock} clock\n")
    print(show_tables(measured, asked.batches))
    print(f"\ntwice the beams cost {show(cost)} times as much")
    document = describe(asked, rounds) | {
        "milliseconds_per_photo": {
            f"{stage}, {column}".strip(", "): value for (stage, column), value in measured.items()
        },
        "beam_doubling_cost": cost,
    }
    sys.stdout.flush()
    print(json.dumps(rounded(document)))


if __name__ == "__main__":
    main()
