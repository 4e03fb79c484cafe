"""Images from disk to batches of pixels, exactly as the server prepares an upload.

Knows no captions.

A damaged image is reported by name and replaced by a gray one, until there are too many.
"""

import logging
from collections.abc import Callable, Generator, Sequence
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

__all__ = ["ImageReader", "prefetched"]

T = TypeVar("T")
R = TypeVar("R")
_GRAY = 127
_logger = logging.getLogger(__name__)


class ImageReader:
    """Reads images as the model wants them; counts and names those that cannot be read."""

    def __init__(self, preprocess: PreprocessConfig, max_unreadable: int) -> None:
        """Allow up to `max_unreadable` damaged images, then raise DataError."""
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
            image = decode_image(path.read_bytes(), side_pixels=size)
            return prepare_image(image, self.preprocess).pixels
        except (ImageError, OSError) as error:
            if path not in self.unreadable:
                self._report(path, str(error))
            return np.full((3, size, size), _GRAY, dtype=np.uint8)

    def _report(self, path: Path, fault: str) -> None:
        """Name and count a damaged image; raise DataError where there are more than the limit."""
        self.unreadable.add(path)
        self.report.add(str(path), fault)
        if len(self.unreadable) > self.max_unreadable:
            raise DataError(
                f"{self.report.summary()} The limit is {self.max_unreadable}: mend the data, or "
                f"set max_unreadable = {len(self.unreadable)} in the experiment to go on with gray "
                "ones in their place."
            )
        _logger.warning("%s: %s A gray picture stands in its place.", path, fault)


def prefetched(function: Callable[[T], R], items: Sequence[T], ahead: int = 2) -> Generator[R]:
    """Give function(item) in order, computed in a second thread, `ahead` items early."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        futures = [pool.submit(function, item) for item in items[:ahead]]
        for position in range(len(items)):
            if position + ahead < len(items):
                futures.append(pool.submit(function, items[position + ahead]))
            yield futures[position].result()
            futures[position] = None  # type: ignore[call-overload]  # lets the batch go
