"""Every file of docs/examples, run against the real service, which wants a key."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.core.keys import add_key
from tests.e2e.server import WAIT_SECONDS, Server, serving

pytestmark = [pytest.mark.docs, pytest.mark.e2e]

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "examples"
PROGRAMS = {".sh": ["bash"], ".py": [sys.executable], ".mjs": ["node"]}
EXAMPLES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in PROGRAMS)
MANY = "caption_many.py"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def key_and_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return add_key(path, "reader", now=datetime.now(UTC)), path


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, key_and_file: tuple[str, Path]
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("examples")
    with serving(folder, repository, keys_file=key_and_file[1]) as server:
        yield server


def run(
    name: str, server: Server, key: str, folder: Path, *photos: Path
) -> subprocess.CompletedProcess[str]:
    """Run an example in a folder of its own."""
    program = PROGRAMS[Path(name).suffix]
    if shutil.which(program[0]) is None:
        pytest.skip(f"needs {program[0]}")
    settings = {"GLIMPSE_URL": f"http://127.0.0.1:{server.port}", "GLIMPSE_API_KEY": key}
    return subprocess.run(
        [*program, str(FOLDER / name), *map(str, photos)],
        cwd=folder,
        env=os.environ | settings | {"PYTHONPATH": str(FOLDER.parents[1])},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


def captions_of(output: str) -> list[str]:
    """The captions that an example printed, without their confidences."""
    if output.startswith("{"):
        return [caption["text"] for caption in json.loads(output)["captions"]]
    return [line.rpartition(" (")[0] for line in output.splitlines()]


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {MANY}))
def test_example_prints_captions_and_draws_where_the_model_looked(
    name: str, server: Server, key_and_file: tuple[str, Path], tmp_path: Path, repository: Path
) -> None:
    photo = repository / "docs" / "images" / "cat.jpg"
    done = run(name, server, key_and_file[0], tmp_path, photo)
    assert (done.returncode, done.stderr) == (0, "")
    captions = captions_of(done.stdout)
    assert len(captions) == len(set(captions)) == 3
    assert all(" in " in caption or " on " in caption for caption in captions), captions
    assert (tmp_path / "attention.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {MANY}))
def test_example_says_what_is_wrong_and_fails(
    name: str, server: Server, key_and_file: tuple[str, Path], tmp_path: Path
) -> None:
    no_photo = tmp_path / "notes.txt"
    no_photo.write_text("no picture")
    done = run(name, server, key_and_file[0], tmp_path, no_photo)
    assert done.returncode != 0
    assert "The file is not a picture that can be read." in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "attention.png").exists()


def test_example_of_many_photos_prints_a_line_for_each(
    server: Server, key_and_file: tuple[str, Path], tmp_path: Path, repository: Path
) -> None:
    photos = [repository / "docs" / "images" / f"{name}.jpg" for name in ("cat", "coffee")]
    done = run(MANY, server, key_and_file[0], tmp_path, *photos, repository / "README.md")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": ", maxsplit=1) for line in done.stdout.splitlines())
    assert set(lines) == {*map(str, photos), str(repository / "README.md")}
    assert lines[str(repository / "README.md")].startswith("not captioned: The file is not")


def test_page_of_the_examples_names_each_with_the_command_that_runs_it() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\[([\w.]+)\]\(\1\) \| `(?:[\w./]+ )?docs/examples/([\w.]+) ", page)
    assert sorted(first for first, _ in named) == EXAMPLES
    assert all(first == second for first, second in named)
