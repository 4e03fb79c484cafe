"""Milliseconds a photo of the runtime alone: its encoder and its beam search, without files, queue
and HTTP.

    python -m benchmarks.bare [MODEL] [--beam-size 3] [--batches 1 4 8 16] [--seconds 12]

What limits the figure is the arithmetic of the encoder and of the decoder's steps, at the speed
that the runtime reaches on this machine's processors; around it stand Python's cost of each step
and of putting words and maps into an answer. It is the ideal that `benchmarks/serve.py` relates
the service to: the captioner is the one that the service would load with the same settings, in a
process of its own, with as many threads. The batch sizes take turns, and the median of each
counts. Prints a table for people; the last line of standard output is one JSON document.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence

from app.core.settings import Settings
from app.engine.build import build_catalog
from benchmarks.photos import photos
from models.caption import Captioner
from models.config import DecodingOptions
from models.preprocessing import DecodeLimits

BATCHES = (1, 4, 8, 16)
BEAM_SIZE = 3
LEAST_ROUNDS = 2


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure the runtime alone.")
    parser.add_argument("model", nargs="?", default="glimpse")
    parser.add_argument("--beam-size", type=int, default=BEAM_SIZE)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--seconds", type=float, default=12.0, help="time for all together")
    return parser.parse_args()


def measure(
    captioner: Captioner, options: DecodingOptions, batches: Sequence[int], seconds: float
) -> dict[int, float]:
    """Give the median seconds a photo for each batch size."""
    limits = DecodeLimits()
    prepared = [captioner.prepare(data, limits) for data in photos()]
    times: dict[int, list[float]] = {size: [] for size in batches}
    rounds = -1  # the first warms up
    end = time.perf_counter() + seconds
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        for size in batches:
            images = [prepared[number % len(prepared)] for number in range(size)]
            started = time.perf_counter()
            captioner.caption(images, options)
            if rounds >= 0:
                times[size].append((time.perf_counter() - started) / size)
        rounds += 1
    return {size: statistics.median(values) for size, values in times.items()}


def main() -> None:
    """Measure, print the table, and end with the JSON document."""
    asked = arguments()
    captioner = build_catalog(Settings(model=asked.model)).load(asked.model)
    own = captioner.info.config.decoding.model_dump()
    options = DecodingOptions(**own | {"beam_size": asked.beam_size, "num_captions": 1})
    found = measure(captioner, options, asked.batches, asked.seconds)
    runtime = captioner.runtime
    print(f"{runtime.name} {runtime.version}, {runtime.precision}, {runtime.threads} thread(s)")
    for size, value in found.items():
        print(f"batch {size:3}: {1000 * value:8.2f} ms a photo")
    document = {
        "benchmark": "bare",
        "runtime": f"{runtime.name} {runtime.precision}",
        "threads": runtime.threads,
        "beam_size": asked.beam_size,
        "seconds_per_photo": {str(size): round(value, 6) for size, value in found.items()},
    }
    sys.stdout.flush()
    print(json.dumps(document))


if __name__ == "__main__":
    main()
