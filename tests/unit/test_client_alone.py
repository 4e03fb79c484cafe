"""The client by itself: what it loads, and that it installs without the project."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

LOADED = """
import sys, glimpse_client
bad = {"torch", "numpy", "PIL", "app", "models", "training", "evaluation", "fastapi", "starlette"}
print(glimpse_client.__file__, *sorted(bad & set(sys.modules)))
"""


def test_client_loads_no_torch_and_nothing_of_the_server(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(repository / "glimpse_client" / "__init__.py")]


def test_client_alone_has_the_projects_version_and_allows_its_pins(repository: Path) -> None:
    project, alone = (
        tomllib.loads((repository / folder / "pyproject.toml").read_text(encoding="utf-8"))
        for folder in (".", "glimpse_client")
    )
    assert alone["project"]["version"] == project["project"]["version"]
    assert {line.partition(">=")[0] for line in alone["project"]["dependencies"]} <= {
        line.partition("==")[0] for line in project["project"]["dependencies"]
    }


@pytest.mark.slow
def test_client_installs_alone(repository: Path, tmp_path: Path) -> None:
    """From a copy: building writes beside the sources."""
    source = tmp_path / "source" / "glimpse_client"
    shutil.copytree(
        repository / "glimpse_client", source, ignore=shutil.ignore_patterns("__pycache__")
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    target = tmp_path / "installed"
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--no-build-isolation", "--target", target, source],
        check=True,
        capture_output=True,
    )
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(target / "glimpse_client" / "__init__.py")]
    installed = {path.name for path in (target / "glimpse_client").iterdir()} - {"__pycache__"}
    ours = {path.name for path in source.iterdir() if path.suffix == ".py"} | {"py.typed"}
    assert installed == ours
