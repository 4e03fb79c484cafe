"""What the end-to-end tests send, and a server that several of them attack."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.server import Server, serving


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
