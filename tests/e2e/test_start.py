"""A start that cannot work ends at once, with one line that names the setting; one without a place
to write works."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.e2e.server import WAIT_SECONDS, Server, environment, eventually, serving

pytestmark = pytest.mark.e2e


def start(repository: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        cwd=repository,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


def assert_said(done: subprocess.CompletedProcess[str], line: str) -> None:
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first == "glimpse cannot start."
    assert second.startswith(line)


def test_start_on_a_port_in_use_names_the_port(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = start(repository, port=port, captioner="real")
    assert_said(done, f"GLIMPSE_PORT={port} cannot work: another program listens on this port")


def test_start_without_the_weights_folder_names_it(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "none"
    done = start(repository, captioner="real", weights_folder=folder)
    assert_said(done, f"GLIMPSE_WEIGHTS_FOLDER={folder} cannot work: there is no such folder")


def writing_nothing(
    repository: Path, arguments: list[str], **settings: object
) -> subprocess.Popen[str]:
    """A process that may write no file anywhere: its limit of a file's size is 0."""
    return subprocess.Popen(
        ["bash", "-c", 'ulimit -f 0; exec "$@"', "bash", sys.executable, *arguments],
        cwd=repository,
        env=environment(**settings),
        stderr=subprocess.PIPE,  # a file could not be written
        text=True,
    )


def test_service_that_may_write_no_file_loads_its_model_and_answers(
    repository: Path, png: bytes
) -> None:
    with writing_nothing(repository, ["-c", "import tempfile; tempfile.gettempdir()"]) as probe:
        assert probe.stderr is not None
        assert "No usable temporary directory" in probe.stderr.read()
    with writing_nothing(repository, ["-m", "app", "serve"], captioner="real") as process:
        assert process.stderr is not None
        too_late = threading.Timer(WAIT_SECONDS, process.kill)
        too_late.start()
        try:
            lines = iter(process.stderr.readline, "")
            running = next(line for line in lines if "running on" in line)
            port = int(running.split("127.0.0.1:")[1].split()[0])
            server = Server(process, port, Path())
            eventually(lambda: server.caption(png)[0] == 200)
        finally:
            too_late.cancel()
            process.kill()


def test_process_that_cannot_go_on_says_so_and_ends_with_1(repository: Path) -> None:
    code = """
import threading
import app.main
from app.core.logging import configure_logging
from app.core.settings import load_settings
from app.server.run import run_server

create_app = app.main.create_app

def create_and_give_up(settings, **options):
    created = create_app(settings, **options)
    threading.Timer(0.5, created.state.on_fatal, ["the captioner keeps failing"]).start()
    return created

app.main.create_app = create_and_give_up
configure_logging("text", "info")
run_server(load_settings())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "CRITICAL app.server.fatal: cannot go on: the captioner keeps failing" in done.stderr
    assert "stopping: answering what waits" in done.stderr
    assert "Traceback" not in done.stderr


def test_start_takes_the_event_loop_of_the_tests_whatever_else_is_installed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uvloop.py").write_text('raise RuntimeError("not this one")\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(tmp_path, repository) as server:
        assert server.get("/healthz")


@pytest.mark.parametrize(
    ("fault", "state", "code"),
    [("load", "loading", 3), ("canary", "warming up", 1), ("decoders", "warming up", 1)],
)
def test_start_that_never_ends_is_ended_with_one_last_word(
    repository: Path, fault: str, state: str, code: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.faulty_server", fault],
        cwd=repository,
        env=environment(start_timeout_seconds=3, shutdown_timeout_seconds=1),
        capture_output=True,
        text=True,
        timeout=2 * WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == code
    (last_word,) = [line for line in done.stderr.splitlines() if "CRITICAL" in line]
    assert f"the model is still {state} after 3 seconds" in last_word
    assert "GLIMPSE_START_TIMEOUT_SECONDS" in last_word
    assert "Traceback" not in done.stderr
