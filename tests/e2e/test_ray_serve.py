"""The service as a Ray Serve application, asked through Ray's proxy by the client."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from glimpse_client import Client, GlimpseError, ImageRefusedError
from tests.e2e.ray_cluster import NEEDS_RAY, RAY, Node, ray_environment
from tests.e2e.server import eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not RAY.exists(), reason=NEEDS_RAY),
]

PROGRAM = """
import sys, ray
from ray import serve
from deploy.ray.serving import application
ray.init(address="local", num_cpus=4, include_dashboard=False)
serve.start(http_options={"port": int(sys.argv[1])})
serve.run(application, blocking=True)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Client]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    log = tmp_path_factory.mktemp("ray") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(port)],
            cwd=repository,
            env=ray_environment(repository, decode_processes=1),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with Client(f"http://127.0.0.1:{port}", retries=0) as client:
            eventually(lambda: answers(client) or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield client
    finally:
        Node(process, log).kill()


def answers(client: Client) -> bool:
    try:
        return bool(client.models())
    except GlimpseError:
        return False


def test_application_captions_draws_and_refuses_as_the_service_does(
    client: Client, png: bytes
) -> None:
    assert client.caption(png, num_captions=2).captions[1].text
    assert Image.open(BytesIO(client.overlay(png))).format == "PNG"
    with pytest.raises(ImageRefusedError, match="not a picture that can be read"):
        client.caption(b"no picture")
