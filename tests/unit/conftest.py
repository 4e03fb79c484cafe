"""What the tests of the results share: a machine without Java, METEOR's program started once, and a
folder that may be written to."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def without_java() -> Iterator[None]:
    """A module that marks itself with it finds no Java, whatever the machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        yield


class _Kept:
    """Stands for a program that was started anew, and leaves its end to the session."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.stdin = program.stdin
        self.stdout = program.stdout

    def __enter__(self) -> "_Kept":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def communicate(self) -> None:
        pass


@pytest.fixture(scope="session")
def programs() -> Iterator[dict[tuple[str, ...], subprocess.Popen[str]]]:
    """Programs by their commands, which run until the session ends."""
    running: dict[tuple[str, ...], subprocess.Popen[str]] = {}
    yield running
    for program in running.values():
        program.communicate()
        assert program.returncode == 0


@pytest.fixture
def one_meteor(
    programs: dict[tuple[str, ...], subprocess.Popen[str]],
) -> Callable[[], AbstractContextManager[None]]:
    """Inside `with one_meteor():` METEOR's program, which takes seconds to start, is started only
    where it does not run yet.

    It is started by the command that is tested, and answers each line by itself.
    """
    start = subprocess.Popen

    def start_once(command: Sequence[str], **streams: Any) -> _Kept:
        key = tuple(command)
        if key not in programs:
            programs[key] = start(command, **streams)
        return _Kept(programs[key])

    @contextmanager
    def patched() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess, "Popen", start_once)
            yield

    return patched


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """The module's `place` once more, to be written to."""
    return shutil.copytree(place, tmp_path / "copy")
