"""The end of the process: within its time, whatever hangs; and with 1 where it cannot go on, for a
supervisor to start it again. Knows no HTTP and no models."""

import logging
import os
import threading
from collections.abc import Callable

__all__ = ["FatalEnd"]

_logger = logging.getLogger(__name__)
_EXIT_CODE = 1


class FatalEnd:
    """Ends the process with 1 when it is called, from whichever thread.

    The server gets `drain_seconds` to answer what it can; then the process ends where it stands.
    """

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._lock = threading.RLock()  # a signal may come while it is held
        self._stop: Callable[[], None] | None = None
        self._timer: threading.Timer | None = None
        self.reason: str | None = None

    def stops(self, stop: Callable[[], None]) -> None:
        """Take what asks the server to stop; asks at once if the end is already decided."""
        with self._lock:
            self._stop = stop
            is_decided = self.reason is not None
        if is_decided:
            stop()

    def __call__(self, reason: str) -> None:
        """Decide the end; only the first reason counts. `reason` is a sentence for the log."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            stop = self._stop
        _logger.critical("cannot go on: %s", reason)
        self.begins()
        if stop is not None:
            stop()

    def begins(self) -> None:
        """Note that the process ends, for whatever reason: from now on its time runs."""
        with self._lock:
            if self._timer is not None:
                return
            self._timer = threading.Timer(self._drain_seconds, self._end_now)
        self._timer.daemon = True
        self._timer.start()

    def leave_threads_behind(self, code: int = 0) -> None:
        """End the process at its end where a thread hangs: with the code, or 1 as was decided.

        One that hangs inside a library could bring the interpreter down on its way out.
        """
        logging.shutdown()
        os._exit(code if self.reason is None else _EXIT_CODE)

    def _end_now(self) -> None:
        _logger.critical("the end took longer than %g seconds", self._drain_seconds)
        logging.shutdown()
        os._exit(_EXIT_CODE)
