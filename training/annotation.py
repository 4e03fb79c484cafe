"""What a network sees of images: as they are asked for, or once, into a cache.

Knows no decoder, and of captions only whether a flip is allowed.

B images, L locations, D features.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.features import ImageFeatures
from models.geometry import Box
from models.network import CaptioningModel
from models.runtime.torch import eyes_fingerprint
from training.data.annotation_cache import AnnotationCache, Views
from training.data.augmentation import augment, blank
from training.data.batching import seeded
from training.data.datasets import CaptionedImage
from training.data.examples import Example
from training.data.images import ImageReader
from training.distributed import Processes
from training.run_log import RunLog

__all__ = ["Annotator"]

_BATCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class Annotator:
    """A network's eyes, and what they need to annotate images.

    autocast: enters the run's precision.
    folder: holds the caches; each is named after the weights that see, so that changed weights
        begin a new one.
    """

    network: CaptioningModel
    reader: ImageReader
    autocast: Callable[[], AbstractContextManager[None]]
    folder: Path
    processes: Processes
    run_log: RunLog

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> ImageFeatures:
        """Give features in float32 of pixels (B, 3, H, W) uint8, seen in the run's precision.

        Leaves the encoder in evaluation mode, in which an image's annotations depend on nothing
        else.
        """
        self.network.encoder.eval()
        with self.autocast():
            features = self.encode_with_gradient(pixels)
        return features.to(torch.float32)

    def encode_with_gradient(self, pixels: Tensor) -> ImageFeatures:
        """Encode pixels with a gradient, in the encoder's mode and the entered precision."""
        return self.network.see(pixels.to(self.processes.device), self.reader.preprocess)

    def views(self, examples: Sequence[Example], count: int, seed: int) -> Views:
        """Cache `count` views of the examples' images: as they are, and augmented by `seed`.

        An image is mirrored only where every example that shows it allows it; which those are is
        part of the cache's name.
        """
        flippable = _flippable_paths(examples)
        allowed = hashlib.sha256(bytes(flippable.values())).hexdigest()
        numbers = {path: number for number, path in enumerate(flippable)}

        def augmented(view: int) -> AnnotationCache:
            def encode(paths: Sequence[Path]) -> ImageFeatures:
                generator = seeded(seed, view, numbers[paths[0]])
                flips = torch.tensor([flippable[path] for path in paths])
                return self.encode(augment(self.reader(paths), flips, generator))

            return self._filled(examples, encode, f" view {view} of seed {seed}", allowed)

        return Views([self.cache(examples), *map(augmented, range(1, count))])

    def cache(self, images: Sequence[Example | CaptionedImage]) -> AnnotationCache:
        """Compute the annotations of all these images once, or find those of an earlier run."""
        return self._filled(images, lambda paths: self.encode(self.reader(paths)), "")

    def blanked(self, boxes: Mapping[Path, Box]) -> AnnotationCache:
        """Cache images of which no network sees what lies in a box of each, as `blank` hides it.

        The boxes are part of the cache's name.
        """
        images = [CaptionedImage(str(path), path, ()) for path in boxes]
        placed = json.dumps([list(box) for box in boxes.values()])

        def encode(paths: Sequence[Path]) -> ImageFeatures:
            return self.encode(blank(self.reader(paths), [boxes[path] for path in paths]))

        how = hashlib.sha256(placed.encode()).hexdigest()
        return self._filled(images, encode, " of blanked photos", how)

    def _filled(
        self,
        images: Sequence[Example | CaptionedImage],
        encode: Callable[[Sequence[Path]], ImageFeatures],
        what: str,
        how: str = "",
    ) -> AnnotationCache:
        """Give the cache of what `encode` gives of the images; the processes fill it together.

        what: which view it is; part of the cache's name, and shown.
        how: the rest of what its name must tell apart, beside the encoder and the images.
        """
        locations = math.prod(self.network.encoder.grid_size)
        tagger = self.network.tagger
        paths = [each.path for each in images if each.path is not None]
        cache = AnnotationCache(
            self.folder,
            paths,
            eyes_fingerprint(self.network) + what + how,
            (locations, self.network.feature_dim),
            None if tagger is None else tagger.tags_shape,
        )
        rank, world = self.processes.rank, self.processes.world
        with self.run_log.bar("annotations" + what, 0 if cache.complete else len(paths)) as bar:
            for count in cache.fill(encode, _BATCH_SIZE, rank=rank, world=world):
                bar.update(count * world)
        self.processes.wait()
        if self.processes.is_first:
            cache.finish()
        self.processes.wait()
        cache.complete = True
        return cache


def _flippable_paths(examples: Sequence[Example]) -> dict[Path, bool]:
    """Tell of each image whether every example that shows it may be mirrored."""
    flippable: dict[Path, bool] = {}
    for example in examples:
        if example.path is not None:
            flippable[example.path] = flippable.get(example.path, True) and example.flippable
    return flippable
