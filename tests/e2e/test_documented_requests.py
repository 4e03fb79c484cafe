"""Every command of start.md and troubleshooting.md, sent to the shipped weights as it stands."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.server import WAIT_SECONDS, Server, serving
from tests.unit.documentation import commands, fences, pages
from tests.unit.repository import ROOT

pytestmark = [pytest.mark.docs, pytest.mark.e2e]

PAGES = ("start.md", "troubleshooting.md")
STARTS = ("make serve", "docker compose up", "GLIMPSE_HOST=0.0.0.0 make serve")
"""What starts the service, which is running here: other tests hold make and Docker to it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with the shipped weights."""
    with serving(tmp_path_factory.mktemp("documented"), ROOT, captioner="real") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that has what the commands send, and the programs of the environment."""
    for name in ("docs/images/cat.jpg", "docs/images/coffee.jpg", "mkdocs.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return tmp_path


def run(command: str, server: Server, folder: Path) -> str:
    """Run a line of a page, but for the port; give what it prints."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace("localhost:8000", at(server))],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    ).stdout


def at(server: Server) -> str:
    return f"localhost:{server.port}"


def refusals() -> dict[str, tuple[int, str]]:
    """curl command -> the status and the problem that troubleshooting.md says it is answered."""
    found = re.findall(
        r"^```bash\n(curl [^\n]*)\n```\n\nAnswered (\d+) \[`([\w-]+)`\]",
        pages()["troubleshooting.md"],
        re.MULTILINE,
    )
    return {command: (int(status), slug) for command, status, slug in found}


def good_requests() -> list[str]:
    return [
        line
        for page in PAGES
        for line in commands(page)
        if line.startswith("curl ") and line not in refusals() and "mkdocs.yml" not in line
    ]


@pytest.mark.parametrize("command", good_requests())
def test_documented_request_of_a_page_is_answered(
    command: str, server: Server, folder: Path
) -> None:
    printed = run(f"{command} -sS --fail-with-body", server, folder)
    words = shlex.split(command)
    if "-o" in words:
        with Image.open(folder / words[words.index("-o") + 1]) as image:
            assert image.format == "PNG"
    else:
        assert {"captions", "models", "pictures"} & json.loads(printed).keys()


@pytest.mark.parametrize(("command", "answer"), refusals().items())
def test_documented_mistake_is_answered_as_told(
    command: str, answer: tuple[int, str], server: Server, folder: Path
) -> None:
    problem = json.loads(run(f"{command} -sS", server, folder))
    assert (problem["status"], problem["type"]) == (answer[0], f"/problems/{answer[1]}")


def test_documented_file_that_is_no_picture_is_refused_as_told(
    server: Server, folder: Path
) -> None:
    (command,) = [line for line in commands("start.md") if "mkdocs.yml" in line]
    problem = json.loads(run(f"{command} -sS", server, folder))
    assert (problem["status"], problem["type"]) == (415, "/problems/unreadable-image")


def test_documented_program_prints_the_caption(server: Server, folder: Path) -> None:
    (program,) = [fence.code for fence in fences("start.md") if fence.language == "python"]
    near = program.replace("localhost:8000", at(server))
    printed = run(f".venv/bin/python -c {shlex.quote(near)}", server, folder)
    caption = json.loads(run(f"{good_requests()[0]} -sS", server, folder))["caption"]
    assert printed == f"{caption}\n"


def test_documented_key_is_made_in_the_file_that_was_named(server: Server, folder: Path) -> None:
    lines = [line for line in commands("troubleshooting.md") if not line.startswith("curl ")]
    assert lines == [
        "export GLIMPSE_KEYS_FILE=keys.json",
        ".venv/bin/glimpse keys add laptop",
        STARTS[2],
    ]
    run("\n".join(lines[:2]), server, folder)
    assert "laptop" in (folder / "keys.json").read_text(encoding="utf-8")


def test_documented_command_line_says_what_the_service_says(server: Server, folder: Path) -> None:
    """Every other line of the page only starts the service."""
    (line,) = [
        line for line in commands("start.md") if not line.startswith("curl ") and line not in STARTS
    ]
    caption = json.loads(run(f"{good_requests()[0]} -sS", server, folder))["caption"]
    assert run(line, server, folder).strip() == caption
