"""Milliseconds that a photo takes from its file to the model's input: here, and in a decoder
process of the service.

    python benchmarks/decode.py [--photo FILE] [--seconds 20]

Both are measured in turn, and the median counts: what disturbs the machine for a while disturbs
both alike. Prints a table for people; the last line of standard output is one JSON document.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from app.core.metrics import Metrics
from app.engine.decode_pool import DecodePool
from models.config import PreprocessConfig
from models.preprocessing import DecodeLimits, decode_image, prepare_image

SQUEEZE = PreprocessConfig(size_pixels=224, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
SIZES = ((500, 375), (4000, 3000))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure what a decoder process costs.")
    parser.add_argument("--photo", type=Path, help="a picture file, beside made-up JPEGs")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for all cases together")
    return parser.parse_known_args()[0]  # `make bench` gives every benchmark the same ones


def made_up_image(width: int, height: int) -> bytes:
    """Give a JPEG about as hard to decode as a camera's: soft shapes under fine grain."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    grain = random.normal(0, 6, (height, width, 1))
    pixels = (np.asarray(coarse.resize((width, height))) + grain).clip(0, 255).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def decode_here(data: bytes) -> None:
    """Decode and squeeze a file in this process."""
    prepare_image(decode_image(data, side_pixels=SQUEEZE.size_pixels), SQUEEZE)


async def measure(files: dict[str, bytes], seconds: float) -> dict[str, dict[str, float]]:
    """Give the median milliseconds of each file, decoded here and in a process."""
    pool = DecodePool(
        DecodeLimits(),
        processes=1,
        memory_bytes=800_000_000,
        timeout_seconds=60.0,
        metrics=Metrics(),
    )
    pool.start()
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in files}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, data in files.items():
            started = time.perf_counter()
            decode_here(data)
            between = time.perf_counter()
            await pool.prepare(data, SQUEEZE)
            here, there = times[name]
            here.append(1000 * (between - started))
            there.append(1000 * (time.perf_counter() - between))
    await pool.stop()
    return {
        name: {"here": statistics.median(here), "in a process": statistics.median(there)}
        for name, (here, there) in times.items()
    }


def main() -> None:
    """Measure, print the table, and end with the JSON document."""
    asked = arguments()
    files = {f"{width} x {height}": made_up_image(width, height) for width, height in SIZES}
    if asked.photo is not None:
        files[asked.photo.name] = asked.photo.read_bytes()
    measured = asyncio.run(measure(files, asked.seconds))
    print(f"{'milliseconds a photo':24}{'bytes':>10}{'here':>10}{'in a process':>14}")
    for name, data in files.items():
        row = measured[name]
        print(f"{name:24}{len(data):10}{row['here']:10.2f}{row['in a process']:14.2f}")
    sys.stdout.flush()
    print(json.dumps({"benchmark": "decode", "milliseconds_per_photo": measured}))


if __name__ == "__main__":
    main()
