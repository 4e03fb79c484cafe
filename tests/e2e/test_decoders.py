"""A real server whose decoder processes are stopped and killed: only their own callers notice."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from PIL import Image

from tests.e2e.server import HEAD, TAIL, WAIT_SECONDS, Server, eventually, serving

pytestmark = pytest.mark.e2e


def decoders(server: Server) -> set[int]:
    """The decoder processes of a server."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            stat = (folder / "stat").read_text(errors="replace")
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        if parent == server.process.pid and b"decode_worker" in command:
            found.add(int(folder.name))
    return found


def both(server: Server) -> set[int]:
    eventually(lambda: server.metric("glimpse_decoder_processes") == 2)
    return decoders(server)


def readiness(server: Server) -> tuple[int, dict[str, Any]]:
    try:
        with urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=WAIT_SECONDS) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def restarts(server: Server, reason: str) -> float:
    return server.metric(f'glimpse_decoder_restarts_total{{reason="{reason}"}}')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("decoders"),
        repository,
        decode_processes=2,
        decode_timeout_seconds=4.0,
    ) as server:
        yield server


def test_server_all_decoders_stuck_is_not_ready_and_is_ready_again_with_new_ones(
    server: Server, png: bytes
) -> None:
    stuck = both(server)
    for pid in stuck:
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as pool:
        lost = [pool.submit(server.caption, png) for _ in stuck]
        eventually(lambda: readiness(server)[0] == 503)
        assert "decoder" in readiness(server)[1]["detail"]
        status, problem = server.caption(png)  # at once, not after the others
        assert (status, problem["type"]) == (503, "/problems/not-ready")
        assert not any(each.done() for each in lost)
        for each in lost:
            status, problem = each.result()
            assert (status, problem["type"]) == (503, "/problems/decoder-lost")
    eventually(lambda: readiness(server)[0] == 200)
    assert server.caption(png)[0] == 200
    assert not stuck & both(server)
    assert restarts(server, "too slow") == 2


def test_server_decode_whose_client_hung_up_is_ended(server: Server, png: bytes) -> None:
    before = both(server)
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    body = HEAD + png + TAIL
    with server.connect(f"Content-Length: {len(body)}") as sock:
        sock.sendall(body)
        eventually(lambda: server.metric("glimpse_decode_memory_bytes") > 0)  # it has begun
    eventually(lambda: restarts(server, "abandoned") == 1)
    for pid in before & decoders(server):
        os.kill(pid, signal.SIGCONT)
    assert server.caption(png)[0] == 200
    assert len(before & both(server)) == 1


def test_server_decoders_killed_under_load_lose_no_more_than_their_own_requests(
    server: Server,
) -> None:
    file = BytesIO()
    Image.effect_noise((1500, 1000), 60).save(file, format="PNG")
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(server.caption, file.getvalue()) for _ in range(48)]
        for killed in (1, 2, 3):
            alive = both(server)
            eventually(lambda: server.metric("glimpse_decode_memory_bytes") > 0)
            os.kill(max(alive), signal.SIGKILL)
            eventually(lambda: restarts(server, "killed") == killed)  # noqa: B023  called here
        statuses = [each.result()[0] for each in answers]
    assert set(statuses) <= {200, 503}
    assert 1 <= statuses.count(503) <= 3
    assert readiness(server)[0] == 200
    lost = 'glimpse_decode_failures_total{problem="decoder-lost"}'
    assert server.metric(lost) >= statuses.count(503)  # and those of other tests


def test_server_that_is_killed_leaves_no_decoder(
    tmp_path: Path, repository: Path, png: bytes
) -> None:
    with serving(tmp_path, repository, decode_processes=2) as server:
        assert server.caption(png)[0] == 200
        alive = both(server)
    eventually(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in alive))
