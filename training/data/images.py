"""Pictures from disk to batches of pixels, exactly as the server prepares an upload; and the cache
of annotations.

Knows no captions. A damaged picture is reported by name and stands in as a gray one, until there
are too many.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from models.config import PreprocessConfig
from models.errors import ImageError
from models.preprocessing import decode_image, prepare_image
from training.data.datasets import DataError, ReadReport

__all__ = ["AnnotationCache", "ImageReader", "prefetched"]

T = TypeVar("T")
R = TypeVar("R")
_GRAY = 127
_logger = logging.getLogger(__name__)


class ImageReader:
    """Reads pictures as the model wants them; counts and names those that cannot be read."""

    def __init__(self, preprocess: PreprocessConfig, max_unreadable: int) -> None:
        """Allow up to `max_unreadable` damaged pictures, then raise DataError."""
        self.preprocess = preprocess
        self.max_unreadable = max_unreadable
        self.report = ReadReport("pictures")
        self.unreadable: set[Path] = set()

    def __call__(self, paths: Sequence[Path]) -> Tensor:
        """Give pixels (B, 3, size, size) uint8, in order."""
        return torch.from_numpy(np.stack([self._read(path) for path in paths]))

    def _read(self, path: Path) -> np.ndarray:
        size = self.preprocess.size_pixels
        try:
            picture = decode_image(path.read_bytes(), side_pixels=size)
            return prepare_image(picture, self.preprocess).pixels
        except (ImageError, OSError) as error:
            if path not in self.unreadable:
                self._report(path, str(error))
            return np.full((3, size, size), _GRAY, dtype=np.uint8)

    def _report(self, path: Path, fault: str) -> None:
        """Name and count a damaged picture; raise DataError where there are more than the limit."""
        self.unreadable.add(path)
        self.report.add(str(path), fault)
        if len(self.unreadable) > self.max_unreadable:
            raise DataError(
                f"{self.report.summary()} The limit is {self.max_unreadable}: mend the data, or "
                "set "
                f"max_unreadable = {len(self.unreadable)} in the experiment to go on with gray "
                "ones in their place."
            )
        _logger.warning("%s: %s A gray picture stands in its place.", path, fault)


def prefetched(function: Callable[[T], R], items: Sequence[T], ahead: int = 2) -> Iterator[R]:
    """Give function(item) in order, computed in a thread beside the caller's, `ahead` items
    early."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        futures = [pool.submit(function, item) for item in items[:ahead]]
        for position in range(len(items)):
            if position + ahead < len(items):
                futures.append(pool.submit(function, items[position + ahead]))
            yield futures[position].result()
            futures[position] = None  # type: ignore[call-overload]  # lets the batch go


class AnnotationCache:
    """Annotations of many pictures on disk, (count, L, D) float16: what a frozen encoder needs
    to compute once."""

    def __init__(
        self, folder: Path, paths: Sequence[Path], fingerprint: str, shape: tuple[int, int]
    ) -> None:
        """Name the cache after the encoder's `fingerprint` and the pictures, so that neither can
        be mistaken."""
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
    ) -> Iterator[int]:
        """Compute every `world`-th batch from the `rank`-th on, giving the number of pictures after
        each.

        One process alone completes the cache. Of several, the first calls `finish` when all have
        come to their end.
        """
        if self.complete:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self._partial.open("ab") as file:  # created by whoever comes first, emptied by nobody
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
        """Declare the cache complete: only now does it bear its name. Another run may have come
        first."""
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
