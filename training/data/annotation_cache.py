"""Features of many images on disk: what frozen eyes compute once, in one view or several.

Knows no encoder. B images, L locations, D features, W tags.
"""

import hashlib
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.features import ImageFeatures, Tags
from training.data.examples import Example

__all__ = ["AnnotationCache", "Views", "shown"]


class AnnotationCache:
    """Features of many images: annotations (count, L, D) in one file, tags in another; float16."""

    def __init__(
        self,
        folder: Path,
        paths: Sequence[Path],
        fingerprint: str,
        shape: tuple[int, int],
        tags_shape: tuple[int, int] | None = None,
    ) -> None:
        """Name the files after the `fingerprint` of what sees, and the images.

        shape: L and D. tags_shape: of `Tags.values` for one image; None where there are no tags.
        """
        names = "\n".join(f"{path.parent.name}/{path.name}:{path.stat().st_size}" for path in paths)
        key = hashlib.sha256(f"{fingerprint}\n{names}".encode()).hexdigest()[:16]
        self.paths = list(paths)
        self.annotations = _HalfFile(folder / f"annotations-{key}.f16", (len(paths), *shape))
        self.tags = None
        if tags_shape is not None:
            self.tags = _HalfFile(folder / f"tags-{key}.f16", (len(paths), *tags_shape))
        self.complete = self.annotations.file.exists()

    def fill(
        self,
        encode: Callable[[Sequence[Path]], ImageFeatures],
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
        for each in self._files():
            each.begin()
        for start in range(rank * batch_size, len(self.paths), world * batch_size):
            batch = self.paths[start : start + batch_size]
            features = encode(batch)
            self.annotations.write(start, features.annotations)
            if self.tags is not None and features.tags is not None:
                self.tags.write(start, features.tags.values)
            yield len(batch)
        if world == 1:
            self.finish()

    def finish(self) -> None:
        """Give the complete cache its name, unless another run was first."""
        if not self.complete:
            for each in self._files():
                each.finish()
            self.complete = True

    def read(self, indices: Sequence[int]) -> ImageFeatures:
        """Give the features of images `indices` in float32."""
        tags = None if self.tags is None else Tags(self.tags.read(indices))
        return ImageFeatures(self.annotations.read(indices), tags)

    def _files(self) -> "list[_HalfFile]":
        """Give the files, that of the annotations last: it stands for the whole."""
        return [each for each in (self.tags, self.annotations) if each is not None]


class _HalfFile:
    """An array of float16 in a file, under another name until it is complete."""

    def __init__(self, file: Path, shape: tuple[int, ...]) -> None:
        self.file = file
        self.partial = file.with_suffix(".partial")
        self.shape = shape

    def begin(self) -> None:
        """Make room for the whole; whoever comes first makes the file, nobody empties it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.partial.open("ab") as file:
            file.truncate(math.prod(self.shape) * np.dtype(np.float16).itemsize)

    def write(self, start: int, values: Tensor) -> None:
        """Write the rows from `start` on."""
        rows = np.memmap(self.partial, dtype=np.float16, mode="r+", shape=self.shape)
        rows[start : start + len(values)] = values.half().cpu().numpy()
        rows.flush()

    def finish(self) -> None:
        """Give the file its name, unless another run was first."""
        if not self.file.exists():
            self.partial.rename(self.file)

    def read(self, indices: Sequence[int]) -> Tensor:
        """Give rows in float32."""
        rows = np.memmap(self.file, dtype=np.float16, mode="r", shape=self.shape)
        return torch.from_numpy(rows[list(indices)].astype(np.float32))


class Views:
    """Features of the same images in several caches: as they are, and augmented."""

    def __init__(self, caches: Sequence[AnnotationCache]) -> None:
        """Take at least one cache; the first has the images as they are."""
        self.caches = caches

    def draw(self, count: int, generator: torch.Generator) -> list[int]:
        """Draw the views of `count` images, all equally likely; 0 is the image as it is."""
        if len(self.caches) == 1:
            return [0] * count  # and nothing is drawn
        return torch.randint(len(self.caches), (count,), generator=generator).tolist()

    def read(self, indices: Sequence[int], views: Sequence[int]) -> ImageFeatures:
        """Give the features of images `indices`, each in its view, in float32."""
        features = self.caches[0].read(indices)
        for number, cache in enumerate(self.caches[1:], start=1):
            chosen = [row for row, view in enumerate(views) if view == number]
            if chosen:
                features.put(chosen, cache.read([indices[row] for row in chosen]))
        return features


def shown(examples: Sequence[Example], views: Sequence[int]) -> list[Example]:
    """Give the examples as they are true of each image in its view: augmented ones lose boxes."""
    return [
        replace(example, grounding=()) if view else example
        for example, view in zip(examples, views, strict=True)
    ]
