"""What a run reports: progress bars, TensorBoard curves, and a few captioned dev images.

Knows no model.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.data.datasets import CaptionedImage

__all__ = ["RunLog"]

_STEPS_BETWEEN_POINTS = 20
_SHOWN = 6


class RunLog:
    """Speaks and writes in the first process, and is silent in the others."""

    def __init__(self, folder: Path, *, speaks: bool) -> None:
        """Write curves below `folder`."""
        self.speaks = speaks
        self.folder = folder
        self.writer = SummaryWriter(str(folder / "curves")) if speaks else None
        self.steps = 0

    def say(self, text: str) -> None:
        """Show a person one line."""
        if self.speaks:
            tqdm.write(text, file=sys.stderr)

    def bar(self, title: str, count: int, unit: str = "photo") -> "tqdm[None]":
        """Give a progress bar with images, or other units, a second and the time left."""
        seconds = 0.5 if sys.stderr.isatty() else 30.0
        return tqdm(
            total=count,
            desc=title,
            unit=unit,
            mininterval=seconds,
            disable=not self.speaks or not count,
        )

    def step(self, tag: str, **values: float) -> None:
        """Plot a step's numbers, every few steps."""
        self.steps += 1
        if self.writer is not None and self.steps % _STEPS_BETWEEN_POINTS == 0:
            for name, value in values.items():
                self.writer.add_scalar(f"{tag}/{name}", value, self.steps)

    def note(self, tag: str, value: float) -> None:
        """Plot one more number of the step that `step` plots next, as rarely as it does."""
        if self.writer is not None and (self.steps + 1) % _STEPS_BETWEEN_POINTS == 0:
            self.writer.add_scalar(tag, value, self.steps + 1)

    def epoch(
        self, title: str, scores: Mapping[str, float], history: Sequence[Mapping[str, Any]]
    ) -> None:
        """Plot and show an epoch's scores, and write the history of all of them to history.json."""
        self.say(f"{title}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        if self.writer is not None:
            for name, value in scores.items():
                self.writer.add_scalar(f"{title}/{name}", value, self.steps)
            self.writer.flush()
            (self.folder / "history.json").write_text(
                json.dumps(history, indent=1) + "\n", encoding="utf-8"
            )

    def captions(
        self, name: str, images: Sequence[CaptionedImage], captions: Sequence[str]
    ) -> None:
        """Write the caption of every image of a set to a file, and show the first few."""
        if not self.speaks:
            return
        lines = [
            json.dumps({"key": image.key, "caption": text}, ensure_ascii=False)
            for image, text in zip(images, captions, strict=True)
        ]
        (self.folder / f"captions-{name.replace(' ', '-')}.jsonl").write_text(
            "\n".join(lines) + "\n", encoding="utf-8"
        )
        for line in lines[:_SHOWN]:
            self.say(f"  {line}")

    def sheets(self, name: str, sheets: Sequence[Image.Image]) -> None:
        """Show captioned images with their maps in TensorBoard."""
        if self.writer is not None:
            for number, sheet in enumerate(sheets):
                self.writer.add_image(
                    f"{name}/{number}", np.asarray(sheet), self.steps, dataformats="HWC"
                )
