"""Milliseconds an image, by part: decoding and preparing the file, the encoder, and the search for
the words.

    python benchmarks/caption.py [MODEL] [--weights-folder weights] [--photo FILE] [--seconds 60]
                                 [--threads N] [--clock cpu]
    make bench ARGS="--seconds 20"

Every case is measured once a round, the rounds as many as the time allows, and the median counts:
what disturbs the machine for a while disturbs all cases alike. Encoder and decoder at batch 1 and
8, each in float32 and in bfloat16 (the service chooses the encoder's by the processor, and always
runs the decoder in float32), the decoder with beams of 1, 3 and 5. Prints a table for people; the
last line of standard output is one JSON document.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.bundles.checkpoint import load_checkpoint
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.features import ImageFeatures
from models.loading import build_captioner
from models.preprocessing import DecodeLimits
from models.runtime.torch import Precision

ROOT = Path(__file__).resolve().parent.parent
BATCHES = (1, 8)
BEAMS = (1, 3, 5)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
MIN_ROUNDS = 3
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

Cases = dict[str, tuple[int, Callable[[], Any]]]  # by name: images in one call, and the call
Captioners = dict[Precision, NetworkCaptioner]  # of one model


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure what a caption costs on this machine.")
    parser.add_argument(
        "model", nargs="?", default="glimpse", help="a bundle in the weights folder"
    )
    parser.add_argument("--weights-folder", type=Path, default=ROOT / "weights")
    parser.add_argument(
        "--photo", type=Path, help="a picture file; else a made-up JPEG of 1280 x 960 pixels"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="time for all cases together")
    parser.add_argument("--threads", type=int, help="threads of PyTorch; else its own choice")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: of all threads together, where others use the machine too",
    )
    return parser.parse_args()


def made_up_image() -> bytes:
    """Give a JPEG about as hard to decode as a camera's: soft shapes under fine grain."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (1280, 960)
    )
    grain = random.normal(0, 6, (960, 1280, 1))
    file = BytesIO()
    Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=90
    )
    return file.getvalue()


def cases(captioners: Captioners, image: bytes) -> Cases:
    """Give every case by its name."""
    first = captioners["float32"]
    limits = DecodeLimits()
    pixels = torch.from_numpy(first.prepare(image, limits).pixels)
    found: Cases = {"prepare": (1, lambda: first.prepare(image, limits))}
    for batch in BATCHES:
        images = pixels.expand(batch, -1, -1, -1).contiguous()
        features = first.encode_pixels(images)
        for precision in PRECISIONS:
            name = f"encoder {precision} batch {batch}"
            found[name] = (batch, encoding(captioners[precision], images))
            for beam in BEAMS:
                name = f"decoder {precision} batch {batch} beam {beam}"
                found[name] = (batch, searching(first, features, precision, beam))
    return found


def encoding(captioner: NetworkCaptioner, pixels: Tensor) -> Callable[[], ImageFeatures]:
    """Encode a batch in the captioner's precision."""
    return lambda: captioner.encode_pixels(pixels)


def searching(
    captioner: NetworkCaptioner, features: ImageFeatures, precision: Precision, beam: int
) -> Callable[[], object]:
    """Search a batch's captions with `beam` beams; the other options are the model's own."""
    own = captioner.info.config.decoding.model_dump()
    options = DecodingOptions(**{**own, "beam_size": beam, "num_captions": 1})

    def search() -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return captioner.caption_features(features, options)

    return search


def measure(
    found: Cases, seconds: float, clock: Callable[[], float]
) -> tuple[dict[str, float], int]:
    """Give the median milliseconds an image of each case, and the number of rounds; one more round
    warms up."""
    times: dict[str, list[float]] = {name: [] for name in found}
    started = time.perf_counter()
    rounds = -1
    while rounds < MIN_ROUNDS or time.perf_counter() - started < seconds:
        for name, (images, call) in found.items():
            start = clock()
            call()
            if rounds >= 0:
                times[name].append(1000 * (clock() - start) / images)
        rounds += 1
    return {name: statistics.median(values) for name, values in times.items()}, rounds


def ratios(measured: dict[str, float]) -> dict[str, float]:
    """Relate the cases: above 1, the first named is the slower."""
    related = {}
    for batch in BATCHES:
        by_precision = [measured[f"encoder {precision} batch {batch}"] for precision in PRECISIONS]
        related[f"encoder float32 to bfloat16, batch {batch}"] = by_precision[0] / by_precision[1]
        by_precision = [
            measured[f"decoder {precision} batch {batch} beam 5"] for precision in PRECISIONS
        ]
        related[f"decoder float32 to bfloat16, batch {batch}, beam 5"] = (
            by_precision[0] / by_precision[1]
        )
        by_beam = [measured[f"decoder float32 batch {batch} beam {beam}"] for beam in BEAMS]
        for beam, value in zip(BEAMS[1:], by_beam[1:], strict=True):
            related[f"decoder beam {beam} to 1, batch {batch}"] = value / by_beam[0]
    for precision in PRECISIONS:
        alone, together = (measured[f"encoder {precision} batch {batch}"] for batch in BATCHES)
        related[f"encoder batch 1 to 8, {precision}"] = alone / together
    for beam in BEAMS:
        alone, together = (
            measured[f"decoder float32 batch {batch} beam {beam}"] for batch in BATCHES
        )
        related[f"decoder batch 1 to 8, beam {beam}"] = alone / together
    return related


def show(measured: dict[str, float], related: dict[str, float]) -> None:
    """Print both tables for people."""
    rows = ["encoder {} batch {}", *(f"decoder {{}} batch {{}} beam {beam}" for beam in BEAMS)]
    columns = [(precision, batch) for precision in PRECISIONS for batch in BATCHES]
    print(
        f"{'milliseconds a photo':22}"
        + "".join(f"{f'{name}, batch {batch}':>20}" for name, batch in columns)
    )
    print(f"{'decode and prepare':22}{measured['prepare']:20.2f}")
    for row in rows:
        title = "encoder" if row.startswith("encoder") else f"decoder, {row[-6:]}"
        print(
            f"{title:22}"
            + "".join(f"{measured[row.format(name, batch)]:20.2f}" for name, batch in columns)
        )
    print()
    for name, value in related.items():
        print(f"{name:44}{value:6.2f}")


def main() -> None:
    """Measure, print the tables, and end with the JSON document."""
    asked = arguments()
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    checkpoint = load_checkpoint(asked.weights_folder / asked.model)
    captioners: Captioners = {
        precision: build_captioner(checkpoint, precision=precision) for precision in PRECISIONS
    }
    image = made_up_image() if asked.photo is None else asked.photo.read_bytes()
    print(f"{asked.model}, {torch.get_num_threads()} thread(s), {asked.clock} clock")
    measured, rounds = measure(cases(captioners, image), asked.seconds, CLOCKS[asked.clock])
    related = ratios(measured)
    show(measured, related)
    document = {
        "benchmark": "caption",
        "model": asked.model,
        "weights": "shipped",
        "digest": checkpoint.digest,
        "photo_bytes": len(image),
        "rounds": rounds,
        "clock": asked.clock,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "bfloat16_in_hardware": torch.cpu._is_avx512_bf16_supported(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "milliseconds_per_photo": {name: round(value, 3) for name, value in measured.items()},
        "ratios": {name: round(value, 3) for name, value in related.items()},
    }
    sys.stdout.flush()
    print(json.dumps(document))


if __name__ == "__main__":
    main()
