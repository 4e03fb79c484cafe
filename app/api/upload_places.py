"""Who may upload now, and how much memory uploads take. Knows no HTTP and waits for nothing.

An upload has a place while it arrives, and takes memory until it is answered. So a slow client
keeps others from nothing but its own share of the places, and whole uploads that wait are bounded
by their bytes and by the queue behind them, not by the places.
"""

from collections import Counter
from collections.abc import Callable

from app.core.addresses import client_key
from app.core.errors import TooManyUploadsError, UploadMemoryFullError
from app.core.metrics import Metrics

__all__ = ["PLACE_IN_SCOPE", "Place", "UploadPlaces"]


class UploadPlaces:
    """The places of arriving uploads, and the memory of all that are not answered yet.

    max_per_client: how many may arrive from one client; 0 for half of all. One client has at most
    half of the memory too, but always room for one upload of `max_upload_bytes`.
    """

    def __init__(
        self,
        *,
        max_uploads: int,
        max_per_client: int,
        memory_bytes: int,
        max_upload_bytes: int,
        metrics: Metrics,
        retry_after_seconds: Callable[[], int] = lambda: 2,
    ) -> None:
        """Take the limits.

        retry_after_seconds: asked for when what waits will have been answered, and left memory.
        """
        self._retry_after_seconds = retry_after_seconds
        self._max_uploads = max_uploads
        self._max_per_client = max_per_client or (max_uploads + 1) // 2
        self._memory_bytes = memory_bytes
        self._memory_bytes_per_client = max(memory_bytes // 2, max_upload_bytes)
        self._metrics = metrics
        self._arriving: Counter[str] = Counter()
        self._held_bytes: Counter[str] = Counter()
        self._arriving_count = 0
        self._held_total_bytes = 0

    def take(self, host: str, announced_bytes: int) -> "Place":
        """Take a place for an upload from this address.

        Raises TooManyUploadsError or UploadMemoryFullError.
        """
        client = client_key(host)
        if self._arriving_count >= self._max_uploads:
            raise TooManyUploadsError(
                f"{self._max_uploads} uploads are being received already. Try again in a few "
                "seconds."
            )
        if self._arriving[client] >= self._max_per_client:
            raise TooManyUploadsError(
                f"{self._max_per_client} uploads are being received from this address already. "
                "Wait for one of them to end."
            )
        self._check_memory(client, announced_bytes)
        self._count(client, 1)
        return Place(self, client)

    def _count(self, client: str, change: int) -> None:
        self._arriving_count += change
        self._metrics.uploads.set(self._arriving_count)
        self._arriving[client] += change
        if not self._arriving[client]:
            del self._arriving[client]

    def _hold(self, client: str, change_bytes: int) -> None:
        self._held_total_bytes += change_bytes
        self._metrics.upload_memory_bytes.set(self._held_total_bytes)
        self._held_bytes[client] += change_bytes
        if not self._held_bytes[client]:
            del self._held_bytes[client]

    def _check_memory(self, client: str, more_bytes: int) -> None:
        if (
            self._held_total_bytes + more_bytes > self._memory_bytes
            or self._held_bytes[client] + more_bytes > self._memory_bytes_per_client
        ):
            raise UploadMemoryFullError(
                "There is no room in memory for the picture now. Try again in a few seconds.",
                retry_after_seconds=self._retry_after_seconds(),
            )


PLACE_IN_SCOPE = "glimpse.place"
"""Where a request's scope has the place of its body, while the request is answered."""


class Place:
    """One upload's place, and its bytes."""

    def __init__(self, places: UploadPlaces, client: str) -> None:
        self._places = places
        self._client = client
        self._is_arriving = True
        self._bytes = 0

    def hold(self, size_bytes: int) -> None:
        """Count bytes that came. Raises UploadMemoryFullError, and holds nothing more then."""
        self._places._check_memory(self._client, size_bytes)
        self._places._hold(self._client, size_bytes)
        self._bytes += size_bytes

    def arrived(self) -> None:
        """Give the place back, and keep the bytes."""
        if self._is_arriving:
            self._is_arriving = False
            self._places._count(self._client, -1)

    def leave(self) -> None:
        """Give back the place and the bytes."""
        self.arrived()
        self._places._hold(self._client, -self._bytes)
        self._bytes = 0
