"""The whole service in this process: real routes, batcher and preprocessing, captions invented
unless asked; and one experiment of the command line, from data to weights."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.core.settings import Settings
from app.main import create_app
from tests.integration.experiment import Place, drawn

READY_SECONDS = 20


@contextmanager
def _running(**settings: Any) -> Iterator[TestClient]:
    defaults: dict[str, Any] = {"captioner": "fake", "decode_processes": 1}
    app = create_app(Settings(**(defaults | settings)))
    with TestClient(app, raise_server_exceptions=False) as client:
        end = time.monotonic() + READY_SECONDS
        while client.get("/readyz").status_code != 200 and time.monotonic() < end:
            time.sleep(0.01)
        yield client


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """A context manager: settings in, a client of a ready service out."""
    return _running


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A client of a ready service with the default settings."""
    with _running() as client:
        yield client


@pytest.fixture(scope="session")
def upright() -> Image.Image:
    """An image that differs along both axes: 96 wide, 64 high, bright at the top right."""
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([x * 2, y * 3, (x + y) % 200], axis=-1).astype(np.uint8)
    pixels[4:20, 70:90] = 255
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def image_file(upright: Image.Image) -> bytes:
    """A good JPEG file."""
    file = BytesIO()
    upright.save(file, format="JPEG", quality=95)
    return file.getvalue()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The experiment, trained, exported and evaluated; tests only read it."""
    place = drawn(tmp_path_factory.mktemp("trained"))
    for command, *options in (
        ("train", "--device", "cpu"),
        ("export",),
        ("evaluate", "--write", "--without-meteor"),
    ):
        answer = place.run(command, *options)
        assert answer.code == 0, answer.err
    return place


@pytest.fixture
def copy(place: Place, tmp_path: Path) -> Place:
    """The same, to be spoilt."""
    shutil.copytree(place.folder, tmp_path / "copy")
    return Place(tmp_path / "copy")
