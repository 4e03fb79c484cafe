"""What the tests of the results share: a machine without Java, and a folder that may be written
to."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def without_java() -> Iterator[None]:
    """A module that marks itself with it finds no Java, whatever the machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        yield


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """The module's `place` once more, to be written to."""
    return shutil.copytree(place, tmp_path / "copy")
