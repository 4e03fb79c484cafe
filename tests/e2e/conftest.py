"""What the end-to-end tests send, and a server that several of them attack."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.e2e.page import Visit, chromium, photo
from tests.e2e.server import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def guarded_server(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Server]:
    """One with few connections and little patience."""
    with serving(
        tmp_path_factory.mktemp("guarded"),
        repository,
        max_connections=16,
        max_uploads_per_client=16,
        head_timeout_seconds=1.0,
        write_timeout_seconds=0.5,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(tab: Visit) -> Iterator[Visit]:
    """The module's `tab`, opened anew: its files are in the browser's cache."""
    tab.open()
    tab.asked.clear()
    yield tab
    tab.check()


@pytest.fixture
def spot(tmp_path: Path) -> Path:
    return photo(tmp_path / "spot.png")
