"""own-photos.md, followed to the letter: what each command prints, what is served in the end."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import serving
from tests.unit.documentation import Fence, commands, fences, write
from tests.unit.repository import ROOT

pytestmark = [pytest.mark.docs, pytest.mark.e2e]

PAGE = "own-photos.md"
TRAIN = "make train CONFIG=own-photos.toml"
SERVE = "GLIMPSE_MODEL=own-photos make serve"
PATIENCE_SECONDS = 300


def outline(text: str) -> list[str]:
    """What was printed, without bars and without what weights and machine decide: numbers and
    captions."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and "%|" not in line]
    lines = [re.sub(r'"caption": ".+"', '"caption": "…"', line) for line in lines]
    return [re.sub(r" *\d+(?:\.\d+)?", " #", line) for line in lines]


def run(script: str, folder: Path) -> str:
    """Run a block of the page where the project is installed; give all that it prints."""
    script = script.replace(TRAIN, ".venv/bin/glimpse-train train own-photos.toml")
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    ).stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks as the project's own does after `make train` has installed it."""
    folder = tmp_path_factory.mktemp("own-photos")
    shutil.copytree(ROOT / "docs" / "images", folder / "docs" / "images")
    for name in ("glimpse", "shared"):
        shutil.copytree(ROOT / "weights" / name, folder / "weights" / name)
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return folder


@pytest.fixture(scope="module")
def printed(place: Path) -> dict[str, tuple[str, str]]:
    """Each block that shows what it prints: what it did print, and what is shown."""
    found: dict[str, tuple[str, str]] = {}
    before: Fence | None = None
    answer = ""
    for fence in fences(PAGE):
        if fence.language == "console":
            assert before is not None
            found[before.code.strip()] = (answer, fence.code)
        elif fence.title:
            write(place, fence.title, fence.code)
        elif SERVE in fence.code:
            break
        else:
            assert fence.language == "bash"
            before, answer = fence, run(fence.code, place)
    return found


def test_own_photos_page_prints_what_it_shows(printed: dict[str, tuple[str, str]]) -> None:
    assert next(iter(printed)) == TRAIN
    assert len(printed) == 3
    for command, (answer, shown) in printed.items():
        assert outline(answer) == outline(shown), command


def test_own_photos_page_ends_with_a_model_that_is_served(
    printed: dict[str, tuple[str, str]], place: Path, tmp_path: Path
) -> None:
    asked = [line for line in commands(PAGE) if line.startswith("curl ")]
    assert printed
    assert len(asked) == 2
    settings = {"model": "own-photos", "weights_folder": place / "weights"}
    with serving(tmp_path, ROOT, captioner="real", **settings) as server:
        for command, name in zip(asked, ("own-photos", "glimpse"), strict=True):
            near = command.replace("localhost:8000", f"localhost:{server.port}")
            answer = json.loads(run(f"{near} -sS --fail-with-body", place))
            assert answer["model"]["name"] == name
            assert answer["caption"]
