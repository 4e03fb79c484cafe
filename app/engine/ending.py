"""How the process ends when its engine has failed, or has left threads behind. Knows no HTTP."""

import logging
import os
import sys
import threading
from collections.abc import Callable

from app.engine.engine import CaptionEngine
from app.engine.supervisor import EngineState

__all__ = ["Ending"]

_logger = logging.getLogger(__name__)
_FAILED = 1


class Ending:
    """Ends the process of an engine: with 0 after a clean stop, with 1 where the engine failed."""

    def __init__(self, engine: CaptionEngine, *, grace_seconds: float) -> None:
        """Take an engine.

        grace_seconds: how long the server may take to end once the engine has failed; then the
            process ends at once.
        """
        self._engine = engine
        self._grace_seconds = grace_seconds
        self._failed = False

    def when_failed(self, end_server: Callable[[], None]) -> None:
        """Call `end_server` where the engine fails for good."""

        def fail() -> None:
            self._failed = True
            last_resort = threading.Timer(self._grace_seconds, self._end_now)
            last_resort.daemon = True
            last_resort.start()
            end_server()

        self._engine.when_failed(fail)

    def leave(self) -> None:
        """End the process, where it should not just go on to its end.

        A thread that hangs inside a library could bring the interpreter down on its way out.
        """
        code = _FAILED if self._failed or self._engine.state is EngineState.failed else 0
        if self._engine.has_left_threads_behind:
            _leave_now(code)
        if code:
            sys.exit(code)

    def _end_now(self) -> None:
        _logger.critical("the server did not end within %g seconds", self._grace_seconds)
        _leave_now(_FAILED)


def _leave_now(code: int) -> None:
    """End without waiting for any thread; what was logged is written first."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
