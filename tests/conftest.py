"""What every test shares: threads, Hypothesis's profile, which tests run unless asked, and where
data that is not in the repository lies.

Some tests read real images, captions and encoders that are too large to ship. They lie in the
folder that GLIMPSE_SHARED names, or beside the repository; where they are absent, those tests are
skipped and say so.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "2")  # before torch is imported; tests run on two cores

# Starlette's TestClient asks under names of its own; tests of this setting set it themselves.
os.environ["GLIMPSE_ALLOWED_HOSTS"] = "*"

import hypothesis
import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from models.captioner import NetworkCaptioner
    from models.runtime.torch import Precision

ROOT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("glimpse", deadline=None, print_blob=True)
hypothesis.settings.load_profile("glimpse")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slow tests, unless `-m` names them: `make test`, and also `make docs`."""
    if "slow" in config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if item not in set(slow)]
    if slow:
        config.hook.pytest_deselected(items=slow)


def _external_folder(name: str) -> Path:
    folder = Path(os.environ.get("GLIMPSE_SHARED", ROOT.parent / "shared")) / name
    if not folder.is_dir():
        pytest.skip(
            f"needs external data: {folder} is absent (GLIMPSE_SHARED names the folder that holds "
            f"'{name}')"
        )
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real captioned images."""
    return _external_folder("data")


@pytest.fixture(scope="session")
def shared_encoders() -> Path:
    """The folder of pretrained encoders, `<name>.safetensors` each."""
    return _external_folder("encoders")


@pytest.fixture(scope="session")
def tagger_tensors(shared_encoders: Path) -> "dict[str, Tensor]":
    """The published weights of the tagger, read once a session; tests only copy them."""
    from training.tagger_weights import read_tagger

    return read_tagger(shared_encoders)


@pytest.fixture(scope="session")
def shipped() -> "Callable[..., NetworkCaptioner]":
    """Load a shipped captioner by its name and precision, once a session: it is read only.

    PyTorch is imported by the tests that ask for one, not by all.
    """
    from models.bundles.shared_tensors import SharedTensors
    from models.loading import load_captioner

    store = SharedTensors()

    @cache
    def load(name: str, precision: "Precision" = "auto") -> "NetworkCaptioner":
        return load_captioner(ROOT / "weights", name, precision=precision, store=store)

    return load
