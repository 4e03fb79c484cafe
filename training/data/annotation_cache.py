"""What the encoder sees of photos: computed as it is asked for, or once, in a cache, in one view or
several.

Knows no captions but whether a flip is allowed, and no decoder. B photos, L locations, D features.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from models.encoders.base import Encoder
from models.runtime.torch import fingerprint, normalize
from training.data.augmentation import augment
from training.data.datasets import CaptionedImage
from training.data.examples import Example, seeded
from training.data.images import AnnotationCache, ImageReader
from training.distributed import Processes
from training.run_log import RunLog

__all__ = ["Annotator", "Views", "shown"]

_BATCH_SIZE = 16


class Views:
    """Annotations of the same photos in several caches: of each photo as it is, and of augmented
    copies."""

    def __init__(self, caches: Sequence[AnnotationCache]) -> None:
        """Take at least one cache; the first has the photos as they are."""
        self.caches = caches

    def draw(self, count: int, generator: torch.Generator) -> list[int]:
        """Draw which view each of `count` photos is shown in, all alike; 0 is the photo as it
        is."""
        if len(self.caches) == 1:
            return [0] * count  # and nothing is drawn
        return torch.randint(len(self.caches), (count,), generator=generator).tolist()

    def read(self, indices: Sequence[int], views: Sequence[int]) -> Tensor:
        """Give annotations (B, L, D) of photos `indices`, each in its view, in float32."""
        annotations = self.caches[0].read(indices)
        for number, cache in enumerate(self.caches[1:], start=1):
            chosen = [row for row, view in enumerate(views) if view == number]
            if chosen:
                annotations[chosen] = cache.read([indices[row] for row in chosen])
        return annotations


def shown(examples: Sequence[Example], views: Sequence[int]) -> list[Example]:
    """Give the examples with what is true of each in its view: boxes lie where they are told in
    the photo as it is."""
    return [
        replace(each, grounding=()) if view else each
        for each, view in zip(examples, views, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Annotator:
    """An encoder with what it takes to see photos through it; `autocast` enters the run's
    precision.

    Caches lie in `folder`. They are named after the encoder's weights, so a new one is begun when
    those have changed.
    """

    encoder: Encoder
    reader: ImageReader
    autocast: Callable[[], AbstractContextManager[None]]
    folder: Path
    processes: Processes
    run_log: RunLog

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Annotations (B, L, D) in float32 of pixels (B, 3, H, W) uint8, in the run's precision.

        Leaves the encoder in evaluation mode: what it sees depends on nothing but the picture.
        """
        self.encoder.eval()
        with self.autocast():
            annotations: Tensor = self.look(pixels)
        return annotations.float()

    def look(self, pixels: Tensor) -> Tensor:
        """The same with a gradient, and in whatever precision the caller has entered."""
        images = normalize(pixels.to(self.processes.device), self.reader.preprocess)
        annotations: Tensor = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return annotations

    def views(self, examples: Sequence[Example], count: int, seed: int) -> Views:
        """Have `count` views of the examples' photos cached: as they are, and augmented by draws of
        `seed`.

        A photo is mirrored only where every example that shows it may be; which may is told by the
        cache's name.
        """
        flippable: dict[Path, bool] = {}
        for each in examples:
            if each.path is not None:
                flippable[each.path] = flippable.get(each.path, True) and each.flippable
        allowed = hashlib.sha256(bytes(flippable.values())).hexdigest()
        numbers = {path: number for number, path in enumerate(flippable)}

        def augmented(view: int) -> AnnotationCache:
            def see(paths: Sequence[Path]) -> Tensor:
                generator = seeded(seed, view, numbers[paths[0]])
                flips = torch.tensor([flippable[path] for path in paths])
                return self.encode(augment(self.reader(paths), flips, generator))

            return self._filled(examples, see, f" view {view} of seed {seed}", allowed)

        return Views([self.cache(examples), *map(augmented, range(1, count))])

    def cache(self, pictures: Sequence[Example | CaptionedImage]) -> AnnotationCache:
        """Compute the annotations of all these pictures once, or find them where an earlier run
        left them."""
        return self._filled(pictures, lambda paths: self.encode(self.reader(paths)), "")

    def _filled(
        self,
        pictures: Sequence[Example | CaptionedImage],
        see: Callable[[Sequence[Path]], Tensor],
        what: str,
        how: str = "",
    ) -> AnnotationCache:
        """Give the cache of what `see` gives of the pictures; the processes fill it together.

        `what` is seen, and `how`, are in its name, beside the encoder and the pictures; a person is
        told `what`.
        """
        shape = (math.prod(self.encoder.grid_size), self.encoder.feature_dim)
        paths = [each.path for each in pictures if each.path is not None]
        cache = AnnotationCache(self.folder, paths, fingerprint(self.encoder) + what + how, shape)
        rank, world = self.processes.rank, self.processes.world
        with self.run_log.bar("annotations" + what, 0 if cache.complete else len(paths)) as bar:
            for count in cache.fill(see, _BATCH_SIZE, rank=rank, world=world):
                bar.update(count * world)
        self.processes.wait()
        if self.processes.is_first:
            cache.finish()
        self.processes.wait()
        cache.complete = True
        return cache
