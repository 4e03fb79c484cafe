"""Photos and captions a second in training: our loop, and a plain one of PyTorch.

    python -m benchmarks.train [--seconds 40] [--batch-size 16] [--model glimpse]

Training goes on from a shipped model, with its network and its words, on drawn photos with five
captions each, once with the encoder frozen and once with both networks learning. What limits it is
arithmetic: of the decoder over all words where the encoder is frozen, as annotations come from a
cache; of the encoder, forth and back, where it learns. Beside it stand reading the photos, which a
second thread does ahead, and page faults: run it with the memory settings of `make train`, as
`make bench` does. `annotations` is how fast the cache is filled, once for all epochs.

The plain loop (`benchmarks/plain_training.py`) has the same network, batch size, photos and
captions, in float32 and without a cache. The first step of each is not counted. Prints a table for
people; the last line of standard output is one JSON document.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.load_figures import ratio
from benchmarks.plain_training import PlainPhotos, train_plainly
from benchmarks.reports import ROOT, rounded, show, table
from models.bundles.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.data.images import ImageReader
from training.data.synthetic_shapes import write
from training.distributed import Processes
from training.initialization import first_model, load_source, model_config, read_data, tell_words
from training.run_log import RunLog
from training.trainer import Trainer

KINDS = ("frozen", "finetune")
PHOTOS = 64
CAPTIONS = 5
EPOCHS = 500  # more than there is time for
PHOTO_PIXELS = 375


class TimeIsOverError(Exception):
    """Ends a run that was timed for long enough."""


class StepClock(RunLog):
    """A silent log that times the steps of a run, and ends it when there were enough.

    photos_per_second: of the steps after the first. annotated_per_second: of the cache, where one
    was filled.
    """

    def __init__(self, folder: Path, batch_size: int, seconds: float) -> None:
        super().__init__(folder, speaks=False)
        self._batch_size = batch_size
        self._seconds = seconds
        self._began: float | None = None
        self._annotating: tuple[float, int] | None = None
        self.photos_per_second = 0.0
        self.annotated_per_second: float | None = None

    def bar(self, title: str, count: int, unit: str = "photo") -> "tqdm[None]":
        """Note when annotations begin, and when the epoch that follows does."""
        now = time.perf_counter()
        if self._annotating is not None:
            began, photos = self._annotating
            self.annotated_per_second = photos / (now - began)
        self._annotating = (now, count) if title.startswith("annotations") and count else None
        return super().bar(title, count, unit)

    def step(self, tag: str, **values: float) -> None:
        """Count a step; the first one warms up. Raises TimeIsOverError."""
        super().step(tag, **values)
        if self._began is None:
            self._began = time.perf_counter()
            return
        elapsed = time.perf_counter() - self._began
        self.photos_per_second = (self.steps - 1) * self._batch_size / elapsed
        if elapsed >= self._seconds:
            raise TimeIsOverError


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure training on this machine.")
    parser.add_argument("--seconds", type=float, default=40.0, help="time for all together")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--model", default="glimpse", help="the bundle that training goes on from")
    return parser.parse_args()


def draw_photos(folder: Path, count: int) -> None:
    """Draw a set with five captions a photo, as people's sets have."""
    write(folder, train_count=count, dev_count=2, seed=1, size_pixels=PHOTO_PIXELS)
    for split in ("train", "dev"):
        listing = folder / f"{split}.jsonl"
        records = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
        lines = [
            json.dumps(record | {"captions": five_captions(record["captions"])})
            for record in records
        ]
        listing.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def five_captions(captions: list[str]) -> list[str]:
    """Say the same in five ways, from two."""
    first, second = captions
    more = [f"there is {first} in this picture", f"there is {second} in this picture"]
    return [first, second, *more, f"a drawing of {first} on paper"]


def experiment(asked: argparse.Namespace, kind: str, data: Path) -> TrainConfig:
    """Describe a run of one stage."""
    dataset = {"name": "shapes", "kind": "jsonl", "root": str(data)}
    stage = {
        "kind": kind,
        "epochs": EPOCHS,
        "batch_size": asked.batch_size,
        "learning_rate": 1e-4,
        "validate_every": EPOCHS,
    }
    return TrainConfig.model_validate(
        {
            "name": f"bench-{kind}",
            "start_from": asked.model,
            "captions_per_photo": CAPTIONS,
            "train": [dataset | {"split": "train"}],
            "dev": [dataset | {"split": "dev"}],
            "stages": [stage],
        }
    )


def train_ours(
    asked: argparse.Namespace, kind: str, data: Path, folder: Path, seconds: float
) -> StepClock:
    """Train as `glimpse-train train` does, for some time."""
    config = experiment(asked, kind, data)
    clock = StepClock(folder / config.name, asked.batch_size, seconds)
    source = load_source(config, ROOT / "weights")
    read = read_data(config, source, clock.say)
    torch.manual_seed(config.seed)
    described = model_config(config, len(read.vocabulary), source)
    model = first_model(config, described, source, folder)
    tell_words(model, read.vocabulary)
    reader = ImageReader(described.preprocess, config.max_unreadable)
    processes = Processes.join("cpu")
    trainer = Trainer(config, read, model, described, reader, processes, clock)
    try:
        trainer.run()
    except TimeIsOverError:
        return clock
    raise RuntimeError(f"The run of stage {kind} ended before its time was over.")


def plain(asked: argparse.Namespace, kind: str, data: Path, seconds: float) -> float:
    """Train the same network in the plain loop; photos a second."""
    checkpoint = load_checkpoint(ROOT / "weights" / asked.model)
    preprocess = checkpoint.config.preprocess
    photos = PlainPhotos(data, checkpoint.vocabulary, preprocess.size_pixels)
    return train_plainly(
        checkpoint.model.float(),
        preprocess,
        photos,
        batch_size=asked.batch_size,
        finetune=kind == "finetune",
        seconds=seconds,
    )


def measure(asked: argparse.Namespace) -> tuple[dict[str, float], dict[str, float], float | None]:
    """Give photos a second of our loop and of the plain one by stage, and of the annotations."""
    ours: dict[str, float] = {}
    plainly: dict[str, float] = {}
    annotated: float | None = None
    each = asked.seconds / (2 * len(KINDS))
    with TemporaryDirectory() as place:
        folder = Path(place)
        draw_photos(folder / "shapes", max(PHOTOS, asked.batch_size))
        for kind in KINDS:
            clock = train_ours(asked, kind, folder / "shapes", folder / "runs", each)
            ours[kind] = clock.photos_per_second
            annotated = annotated or clock.annotated_per_second
            plainly[kind] = plain(asked, kind, folder / "shapes", each)
    return ours, plainly, annotated


def report(
    ours: Mapping[str, float], plainly: Mapping[str, float], annotated: float | None
) -> dict[str, Any]:
    """Put photos a second into the document."""
    return {
        "photos_per_second": dict(ours),
        "captions_per_second": {kind: CAPTIONS * value for kind, value in ours.items()},
        "plain_photos_per_second": dict(plainly),
        "photos_vs_plain": {kind: ratio(ours[kind], plainly[kind]) for kind in ours},
        "annotated_photos_per_second": annotated,
    }


def main() -> None:
    """Measure, print the table, and end with the JSON document."""
    asked = arguments()
    found = report(*measure(asked))
    rows = [
        [
            kind,
            show(found["photos_per_second"][kind], 1),
            show(found["captions_per_second"][kind], 1),
            show(found["plain_photos_per_second"][kind], 1),
            show(found["photos_vs_plain"][kind]),
        ]
        for kind in KINDS
    ]
    print(table(["stage", "photos/s", "captions/s", "plain photos/s", "times as many"], rows))
    print(f"annotations for the cache: {show(found['annotated_photos_per_second'], 1)} photos/s")
    document = {
        "benchmark": "train",
        "model": asked.model,
        "batch_size": asked.batch_size,
        "threads": torch.get_num_threads(),
        **found,
    }
    sys.stdout.flush()
    print(json.dumps(rounded(document)))


if __name__ == "__main__":
    main()
