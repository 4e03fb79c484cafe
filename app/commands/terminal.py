"""What the commands say and where: data to standard output, all else to standard error; and how
they end. Knows no models."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from app.core.errors import BusyError, ServiceError
from models.errors import GlimpseError, OutOfMemoryError

__all__ = [
    "FAILED",
    "WELL",
    "WRONG_USE",
    "number_of",
    "run_command",
    "say",
    "visible",
    "write_line",
]

WELL = 0
FAILED = 1
"""Some file failed, or the model stopped working."""
WRONG_USE = 2
"""The command cannot work like this: nothing was captioned."""
_BY_SIGNAL = 128


def say(message: str) -> None:
    """Say something to the person at the terminal."""
    sys.stderr.write(f"glimpse: {message}\n")
    sys.stderr.flush()


def write_line(text: str) -> None:
    """Write one line of data, at once: whoever reads the other end of a pipe waits for it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def visible(text: str) -> str:
    """Escape what would begin a line or steer a terminal, such as letters of a file's name."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def run_command(work: Coroutine[Any, Any, int]) -> int:
    """Run a command to its end, and give the number that the program ends with.

    Ctrl-C and SIGTERM stop the work where it stands; it cleans up behind itself.
    """
    return number_of(lambda: asyncio.run(_until_terminated(work)))


def number_of(command: Callable[[], int]) -> int:
    """Give the number that the program ends with after a command, however that ends.

    What cannot work is said in its own sentence. A closed pipe ends a command without a word, as it
    ends other programs.
    """
    try:
        return command()
    except KeyboardInterrupt:
        return _BY_SIGNAL + signal.SIGINT
    except asyncio.CancelledError:
        return _BY_SIGNAL + signal.SIGTERM
    except BrokenPipeError:
        # Python flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BY_SIGNAL + signal.SIGPIPE
    except (BusyError, OutOfMemoryError) as error:
        say(str(error))
        return FAILED
    except (ServiceError, GlimpseError) as error:
        say(str(error))
        return WRONG_USE


async def _until_terminated(work: Coroutine[Any, Any, int]) -> int:
    """Let SIGTERM do what Ctrl-C does: cancel the work, which cleans up behind itself."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a command runs in a task")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work
