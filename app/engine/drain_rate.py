"""How fast images are captioned, learned from the batches that ran. Knows no clock and no queue."""

import math

__all__ = ["DrainRate"]

_HALF_LIFE_SECONDS = 10.0
_LEAST_SECONDS = 1
_MOST_SECONDS = 60
_UNKNOWN_SECONDS = 2


class DrainRate:
    """Images a second, the latest batches weighing most.

    A batch counts half once `_HALF_LIFE_SECONDS` of computing came after it; idle time does not
    count, as nothing could have drained.
    """

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._images = 0.0
        self._seconds = 0.0

    def record(self, images: int, seconds: float) -> None:
        """Learn that a batch of `images` took `seconds`."""
        kept = 0.5 ** (seconds / _HALF_LIFE_SECONDS)
        self._images = kept * self._images + images
        self._seconds = kept * self._seconds + seconds

    @property
    def images_per_second(self) -> float | None:
        """The rate; None before the first batch, or where batches take no time that counts."""
        return self._images / self._seconds if self._seconds > 0 else None

    def retry_after_seconds(self, images: int) -> int:
        """Say in how many whole seconds `images` that wait now will have been captioned.

        At least 1 and at most 60; 2 where no batch has run yet.
        """
        rate = self.images_per_second
        if not rate:
            return _UNKNOWN_SECONDS if self._images == 0 else _LEAST_SECONDS
        return min(max(math.ceil(round(images / rate, 6)), _LEAST_SECONDS), _MOST_SECONDS)
