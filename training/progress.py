"""What a run tells: progress bars, TensorBoard curves, and a few captioned dev photos. Knows no model."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.data import Photo

__all__ = ["Journal"]

_STEPS_BETWEEN_POINTS = 20
_SAMPLES = 6


class Journal:
    """Speaks and writes in the first process, and is silent in the others."""

    def __init__(self, folder: Path, *, speaks: bool) -> None:
        """Write curves below `folder`."""
        self.speaks = speaks
        self.folder = folder
        self.writer = SummaryWriter(str(folder / "curves")) if speaks else None  # type: ignore[no-untyped-call]
        self.steps = 0

    def say(self, text: str) -> None:
        """Tell a person one line."""
        if self.speaks:
            tqdm.write(text, file=sys.stderr)

    def bar(self, title: str, photos: int) -> "tqdm[None]":
        """A progress bar with photos a second and the time left."""
        seconds = 0.5 if sys.stderr.isatty() else 30.0
        return tqdm(total=photos, desc=title, unit="photo", mininterval=seconds, disable=not self.speaks or not photos)

    def step(self, tag: str, **values: float) -> None:
        """Plot a step's numbers, every few steps."""
        self.steps += 1
        if self.writer is not None and self.steps % _STEPS_BETWEEN_POINTS == 0:
            for name, value in values.items():
                self.writer.add_scalar(f"{tag}/{name}", value, self.steps)  # type: ignore[no-untyped-call]

    def epoch(self, title: str, scores: Mapping[str, float]) -> None:
        """Plot and tell an epoch's scores."""
        self.say(f"{title}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        if self.writer is not None:
            for name, value in scores.items():
                self.writer.add_scalar(f"{title}/{name}", value, self.steps)  # type: ignore[no-untyped-call]
            self.writer.flush()  # type: ignore[no-untyped-call]

    def samples(self, name: str, photos: Sequence[Photo], captions: Sequence[str]) -> None:
        """Keep what was said of every photo of a set, and show the first few."""
        if not self.speaks:
            return
        lines = [
            json.dumps({"key": p.key, "caption": c}, ensure_ascii=False) for p, c in zip(photos, captions, strict=True)
        ]
        (self.folder / f"captions-{name.replace(' ', '-')}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for line in lines[:_SAMPLES]:
            self.say(f"  {line}")
