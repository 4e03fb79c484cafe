"""Gives the system back what the heap keeps of buffers that are free. Knows no images.

glibc keeps freed memory for the next time, in each thread's part of the heap; batches of every size
and drawings of every picture leave holes there that are seldom filled. Under load a process grew
from 0.85 to 1.5 GB within half an hour (docs/LOG.md).
"""

import ctypes
from time import monotonic

__all__ = ["HeapTrimmer"]


class HeapTrimmer:
    """Trims the heap now and then. Called from one thread."""

    def __init__(self, every_seconds: float = 30.0) -> None:
        """Take how often it is worth the time: tens of milliseconds, and the faults afterwards."""
        self._every_seconds = every_seconds
        self._due = monotonic() + every_seconds
        # Other C libraries have no such function.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def trim_if_due(self) -> None:
        """Trim, if it is long enough since the last time."""
        now = monotonic()
        if self._trim is not None and now >= self._due:
            self._trim(0)
            self._due = now + self._every_seconds
