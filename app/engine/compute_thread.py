"""A thread that works for one caller at a time, and can be left behind where it hangs.

Knows no models. A `ThreadPoolExecutor` will not do: the interpreter waits for its threads at its
end, and a thread that hangs would keep the process from ending.
"""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar
from weakref import WeakSet

__all__ = ["ComputeThread", "ThreadDiedError", "has_running_threads"]

Value = TypeVar("Value")

_Job = tuple[Callable[[], Any], "Future[Any]"]


_threads: WeakSet[Thread] = WeakSet()
_ENDING_SECONDS = 0.2


def has_running_threads() -> bool:
    """Tell whether a `ComputeThread` of this process still runs, after a moment to end.

    One that hangs inside a library could bring the interpreter down on its way out: the process is
    then to be ended without it.
    """
    for thread in list(_threads):
        thread.join(_ENDING_SECONDS)
    return any(thread.is_alive() for thread in _threads)


class ThreadDiedError(Exception):
    """The work ended its thread: it raised what no work may raise, such as SystemExit."""


class ComputeThread:
    """One daemon thread, which runs what is submitted in its order."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        _threads.add(self._thread)

    @property
    def alive(self) -> bool:
        """Whether the thread runs; one that hangs is alive."""
        return self._thread.is_alive()

    def submit(self, work: Callable[[], Value]) -> "Future[Value]":
        """Run the work after what was submitted before.

        The future has what it returned, the Exception that it raised, or ThreadDiedError where it
        raised anything else, which ends the thread.
        """
        future: Future[Value] = Future()
        self._jobs.put((work, future))
        return future

    def ends_within(self, seconds: float) -> bool:
        """Wait that long for the thread to end; tell whether it did."""
        self._thread.join(seconds)
        return not self.alive

    def stop(self) -> None:
        """End the thread after what was submitted; do not wait for it."""
        self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, future = job
            del job
            if not _run(work, future):
                return
            del work, future  # an idle thread keeps no images alive


def _run(work: Callable[[], Any], future: "Future[Any]") -> bool:
    """Settle the future; tell whether the thread may go on."""
    if not future.set_running_or_notify_cancel():
        return True
    try:
        result = work()
    except Exception as error:  # noqa: BLE001  the caller gets it
        future.set_exception(error)
        return True
    except BaseException as error:  # noqa: BLE001  SystemExit and its like
        died = ThreadDiedError(f"{type(error).__name__} ended the thread")
        died.__cause__ = error
        future.set_exception(died)
        return False
    future.set_result(result)
    return True
