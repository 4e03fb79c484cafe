"""The page on how to extend the project, followed to the letter in a copy of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.documentation import Fence, fences, write
from tests.unit.repository import ROOT

pytestmark = pytest.mark.docs

PAGE = "extend.md"
PACKAGES = ("models", "evaluation", "training")


def insert(folder: Path, fence: Fence) -> None:
    """Write a new file, or a part of one before the line that the title names."""
    name, _, before = fence.title.partition(", before ")
    if not before:
        assert not (folder / name).exists(), name
        write(folder, name, fence.code)
        return
    text = (folder / name).read_text(encoding="utf-8")
    assert text.count(f"\n{before}") == 1, fence.title
    write(folder, name, text.replace(f"\n{before}", f"\n{fence.code}\n\n{before}"))


def change(folder: Path, fence: Fence) -> None:
    """Make the change of a diff without line numbers: what it starts from is there once."""
    lines = fence.code.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    text = (folder / fence.title).read_text(encoding="utf-8")
    assert text.count(before) == 1, before
    write(folder, fence.title, text.replace(before, after))


def run(folder: Path, code: str) -> str:
    """Run code with the copy's packages; give what it prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with every change of the page."""
    folder = tmp_path_factory.mktemp("extended")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for fence in fences(PAGE):
        if fence.language == "diff":
            change(folder, fence)
        elif fence.title:
            insert(folder, fence)
    return folder


def test_extend_page_has_a_part_for_an_attention_an_encoder_and_a_metric() -> None:
    titles = {fence.title.partition(",")[0] for fence in fences(PAGE) if fence.title}
    assert {"models/decoders/attention.py", "models/encoders/patches.py"} <= titles
    assert "evaluation/metrics/word_recall.py" in titles


def test_extend_page_lines_all_print_what_is_shown(changed: Path) -> None:
    """One process for all of them: each imports PyTorch."""
    blocks = [fence for fence in fences(PAGE) if fence.language != "diff" and not fence.title]
    programs = [fence.code for fence in blocks if fence.language == "python"]
    shown = [fence.code for fence in blocks if fence.language == "text"]
    assert len(programs) == len(shown) == 3
    assert [fence.language for fence in blocks] == ["python", "text"] * 3
    separator = "=" * 20
    printed = run(changed, f"\nprint({separator!r})\n".join(programs))
    assert printed.split(f"{separator}\n") == shown


def test_extend_page_changes_are_linted_and_formatted_as_the_project_is(changed: Path) -> None:
    names = sorted({fence.title.partition(",")[0] for fence in fences(PAGE) if fence.title})
    ruff = [sys.executable, "-m", "ruff"]
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [*ruff, *check, *settings, *names],
            cwd=changed,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
