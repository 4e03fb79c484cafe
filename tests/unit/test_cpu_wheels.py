"""Where pip is told to look for PyTorch: never for gigabytes that nothing here could use."""

import os
import platform
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy import cpu_wheels
from tests.unit.repository import ROOT
from tests.unit.test_image_rules import docker_instructions

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere pip's own is small")


@contextmanager
def index(status: int) -> Iterator[str]:
    """An index on this machine that answers so."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status if self.path == "/whl/cpu/torch/" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a GPU, whose user asked for nothing, without a proxy in between."""
    for name in ("PIP_EXTRA_INDEX_URL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_index_that_answers_is_chosen() -> None:
    with index(200) as address:
        assert cpu_wheels.choose(address) == address


def test_index_that_does_not_know_pytorch_is_not_chosen() -> None:
    with index(404) as address:
        assert cpu_wheels.choose(address) == ""


def test_machine_without_a_network_takes_what_pip_takes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert cpu_wheels.choose(f"http://127.0.0.1:{port}/whl/cpu") == ""


def test_index_that_hangs_is_left_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_wheels, "_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert cpu_wheels.choose(f"http://127.0.0.1:{silent.getsockname()[1]}/whl/cpu") == ""


def test_gpu_keeps_what_pip_takes(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with index(200) as address:
        assert cpu_wheels.choose(address) == ""


def test_address_of_the_user_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://wheels.example")
    with index(200) as address:
        assert cpu_wheels.choose(address) == "https://wheels.example"


def test_makefile_and_image_ask_before_they_install() -> None:
    assert os.access(ROOT / "deploy" / "cpu_wheels.py", os.R_OK)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    asked = makefile.index("deploy/cpu_wheels.py")
    assert asked < makefile.index("-m pip install")
    (install,) = [
        rest for word, rest in docker_instructions() if word == "RUN" and "-r pins.txt" in rest
    ]
    assert install.index("cpu_wheels.py") < install.index("pip install")
