"""The command line as a process: how soon it comes, what a kill leaves, and how it ends."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app import __version__
from app.xmp.embedding import caption_bytes
from tests.e2e.server import WAIT_SECONDS, environment, eventually

pytestmark = pytest.mark.e2e

PHOTOS = 60
SLOW: dict[str, Any] = {"fake_batch_seconds": 0.05, "max_batch_size": 2, "max_queue_size": 4}


def photo(number: int, kind: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 30), (4 * number, 255 - 4 * number, 90)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos of three formats that captions can be written into, and one that is none."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(PHOTOS):
        kind = ("JPEG", "PNG", "WEBP")[number % 3]
        (photos / f"{number:03d}.{kind.lower()}").write_bytes(photo(number, kind))
    (photos / "010.png").write_bytes(b"no picture")
    return photos


@contextmanager
def running(
    repository: Path,
    arguments: Sequence[object],
    stderr: int = subprocess.PIPE,
    **settings: Any,
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *map(str, arguments)],
        cwd=repository,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        # as in a terminal, also where the tests run in the background of a shell
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of an output, also of one that is being written."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=WAIT_SECONDS)
    return process.returncode, said


def test_what_needs_no_model_does_not_wait_for_one(repository: Path) -> None:
    code = (
        "import sys\n"
        "from app.cli import cli\n"
        "for words in (['--version'], ['--help'], ['bulk', '--help'], ['serve', '--help']):\n"
        "    assert cli(words, standalone_mode=False) in (0, None)\n"
        "heavy = {'torch', 'torchvision', 'fastapi', 'PIL', 'pyarrow'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"glimpse {__version__}\n")
    for command in ("caption", "attention", "bulk", "models", "serve"):
        assert command in done.stdout


def test_completion_is_offered_for_the_shell(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "--show-completion", "bash"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "complete" in done.stdout


def test_bulk_killed_in_the_middle_goes_on_without_loss_or_repetition(
    folder: Path, tmp_path: Path, repository: Path
) -> None:
    original = {path.name: path.read_bytes() for path in folder.iterdir()}
    out = tmp_path / "captions.jsonl"
    command = ["bulk", folder, "--out", out, "--write-xmp"]
    with running(repository, command, **SLOW) as process:
        eventually(lambda: len(rows(out)) >= PHOTOS // 3)
        process.kill()
        process.wait()
    killed = rows(out)
    assert PHOTOS // 3 <= len(killed) < PHOTOS
    with running(repository, command) as process:
        code, said = ended(process)
    assert code == 1  # for the one that is no picture
    assert f"{len(killed)} were done before" in said
    assert "1 failed" in said
    assert Counter(row["file"] for row in rows(out)) == Counter(original.keys())
    for row in rows(out):
        data = (folder / row["file"]).read_bytes()
        if row.get("problem"):
            assert (row["file"], data) == ("010.png", b"no picture")
        else:
            assert data == caption_bytes(original[row["file"]], row["caption"])
    assert {path.name for path in folder.iterdir()} == original.keys()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_bulk_stopped_says_that_it_goes_on_and_does(
    number: signal.Signals, folder: Path, tmp_path: Path, repository: Path
) -> None:
    out = tmp_path / "captions.jsonl"
    with running(repository, ["bulk", folder, "--out", out], **SLOW) as process:
        eventually(lambda: len(rows(out)) >= 5)
        process.send_signal(number)
        code, said = ended(process)
    assert code == 128 + number
    assert "The same command goes on from there." in said
    assert "Traceback" not in said
    assert 5 <= len(rows(out)) < PHOTOS


def test_model_that_hangs_ends_the_command_with_a_sentence(folder: Path, repository: Path) -> None:
    hanging: dict[str, Any] = {"fake_batch_seconds": 60, "batch_timeout_seconds": 0.3}
    with running(repository, ["caption", folder / "000.jpeg"], **hanging) as process:
        code, said = ended(process)
    assert code == 1
    assert said.splitlines()[-1].startswith("glimpse: The model ")
    assert "Traceback" not in said


def test_pipe_that_closes_ends_the_command_without_a_word(folder: Path, repository: Path) -> None:
    with running(repository, ["caption", folder], **SLOW) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"{folder}/000.jpeg\t")
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(WAIT_SECONDS) == 128 + signal.SIGPIPE
    assert [line for line in said.splitlines() if "unreadable-image" not in line] == []


@pytest.mark.parametrize(
    ("variables", "has_color"),
    [({"NO_COLOR": "1"}, False), pytest.param({}, True, marks=pytest.mark.slow)],
)
def test_bar_is_shown_at_a_terminal_with_colors_unless_refused(
    variables: dict[str, str],
    has_color: bool,
    folder: Path,
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with running(
        repository, ["bulk", folder, "--out", tmp_path / "captions.csv"], stderr=theirs
    ) as process:
        os.close(theirs)
        shown = read_all(lambda: os.read(ours, 65_536))
        assert process.wait(WAIT_SECONDS) == 1
    os.close(ours)
    assert f"{PHOTOS}/{PHOTOS}" in shown
    assert ("\x1b[38;5;" in shown) == has_color


def read_all(read: Callable[[], bytes]) -> str:
    """What comes until the other side of a terminal is closed, which Linux tells by an error."""
    received = b""
    while True:
        try:
            piece = read()
        except OSError:
            return received.decode()
        if not piece:
            return received.decode()
        received += piece
