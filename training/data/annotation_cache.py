"""Annotations of many images on disk: what a frozen encoder computes once, in one view or several.

Knows no encoder. B images, L locations, D features.
"""

import hashlib
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.data.examples import Example

__all__ = ["AnnotationCache", "Views", "shown"]


class AnnotationCache:
    """Annotations of many images in one file, (count, L, D) float16."""

    def __init__(
        self, folder: Path, paths: Sequence[Path], fingerprint: str, shape: tuple[int, int]
    ) -> None:
        """Name the file after the encoder's `fingerprint` and the images."""
        names = "\n".join(f"{path.parent.name}/{path.name}:{path.stat().st_size}" for path in paths)
        key = hashlib.sha256(f"{fingerprint}\n{names}".encode()).hexdigest()[:16]
        self.paths = list(paths)
        self.file = folder / f"annotations-{key}.f16"
        self.shape = (len(paths), *shape)
        self.complete = self.file.exists()

    def fill(
        self,
        encode: Callable[[Sequence[Path]], Tensor],
        batch_size: int,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> Generator[int]:
        """Compute every `world`-th batch from the `rank`-th on; yield how many images each had.

        One process alone completes the cache. Of several, the first calls `finish` after all.
        """
        if self.complete:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self._partial.open("ab") as file:  # whoever comes first makes it; nobody empties it
            file.truncate(math.prod(self.shape) * np.dtype(np.float16).itemsize)
        values = np.memmap(self._partial, dtype=np.float16, mode="r+", shape=self.shape)
        for start in range(rank * batch_size, len(self.paths), world * batch_size):
            batch = self.paths[start : start + batch_size]
            values[start : start + len(batch)] = encode(batch).half().cpu().numpy()
            yield len(batch)
        values.flush()
        if world == 1:
            self.finish()

    def finish(self) -> None:
        """Give the complete cache its name, unless another run was first."""
        if not self.complete:
            if not self.file.exists():
                self._partial.rename(self.file)
            self.complete = True

    @property
    def _partial(self) -> Path:
        return self.file.with_suffix(".partial")

    def read(self, indices: Sequence[int]) -> Tensor:
        """Give annotations (B, L, D) in float32."""
        values = np.memmap(self.file, dtype=np.float16, mode="r", shape=self.shape)
        return torch.from_numpy(values[list(indices)].astype(np.float32))


class Views:
    """Annotations of the same images in several caches: as they are, and augmented."""

    def __init__(self, caches: Sequence[AnnotationCache]) -> None:
        """Take at least one cache; the first has the images as they are."""
        self.caches = caches

    def draw(self, count: int, generator: torch.Generator) -> list[int]:
        """Draw the views of `count` images, all equally likely; 0 is the image as it is."""
        if len(self.caches) == 1:
            return [0] * count  # and nothing is drawn
        return torch.randint(len(self.caches), (count,), generator=generator).tolist()

    def read(self, indices: Sequence[int], views: Sequence[int]) -> Tensor:
        """Give annotations (B, L, D) of images `indices`, each in its view, in float32."""
        annotations = self.caches[0].read(indices)
        for number, cache in enumerate(self.caches[1:], start=1):
            chosen = [row for row, view in enumerate(views) if view == number]
            if chosen:
                annotations[chosen] = cache.read([indices[row] for row in chosen])
        return annotations


def shown(examples: Sequence[Example], views: Sequence[int]) -> list[Example]:
    """Give the examples as they are true of each image in its view: augmented ones lose boxes."""
    return [
        replace(example, grounding=()) if view else example
        for example, view in zip(examples, views, strict=True)
    ]
