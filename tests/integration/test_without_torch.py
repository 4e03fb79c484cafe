"""The service where PyTorch is not installed: it serves the models that OpenVINO runs, and says of
the others what they need."""

import json
import subprocess
import sys
from typing import Any

import pytest

from app.core.settings import DEFAULT_MODEL
from tests.unit.repository import ROOT

OTHER = "nic"  # PyTorch alone runs it

BLOCKED = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Missing())
"""

SERVICE = """
import json, time
from pathlib import Path
from fastapi.testclient import TestClient
from app.core.settings import Settings
from app.main import create_app

photo = Path("docs/images/cat.jpg").read_bytes()
kind = {"Content-Type": "image/jpeg"}
answers = {}
with TestClient(create_app(Settings(runtime=sys.argv[1], compute_threads=1))) as client:
    while client.get("/readyz").status_code == 503:
        time.sleep(0.05)
    for path in ("/healthz", "/readyz", "/models"):
        answers[path] = client.get(path)
    for path in ("/caption", "/attention", "/caption?model=nic"):
        answers[path] = client.post(path, content=photo, headers=kind)
found = {path: [answer.status_code, answer.json()] for path, answer in answers.items()}
print(json.dumps(found))
"""

COMMAND = """
from app.cli import main
sys.argv = ["glimpse", *sys.argv[1:]]
main()
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def answers() -> dict[str, list[Any]]:
    done = run(SERVICE, "auto")
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_service_is_ready_captions_a_photo_and_shows_where_it_looked(
    answers: dict[str, list[Any]],
) -> None:
    for path in ("/healthz", "/readyz", "/caption", "/attention"):
        assert answers[path][0] == 200, answers[path]
    assert "cat" in answers["/caption"][1]["caption"]
    words = answers["/attention"][1]["words"]
    assert [word["word"] for word in words] == answers["/caption"][1]["caption"].split()
    for word in words:
        assert sum(map(sum, word["alpha"])) == pytest.approx(1, abs=0.01)


def test_models_say_which_of_them_need_pytorch(answers: dict[str, list[Any]]) -> None:
    status, body = answers["/models"]
    assert status == 200
    models = {model["name"]: model for model in body["models"]}
    assert models[DEFAULT_MODEL]["loaded"]
    assert models[DEFAULT_MODEL]["runtime"]["name"] == "openvino"
    assert models["soft-attention"]["parameters"] > 1_000_000
    assert models["soft-attention"]["problem"] is None
    assert "runs in PyTorch, which is not installed" in models[OTHER]["problem"]


def test_model_that_needs_pytorch_is_answered_with_what_to_install(
    answers: dict[str, list[Any]],
) -> None:
    status, problem = answers["/caption?model=nic"]
    assert status == 503
    assert "Install the extra `torch`" in problem["detail"]


def test_service_that_is_told_to_compute_in_pytorch_does_not_start_and_says_why() -> None:
    done = run(SERVICE, "torch")
    assert done.returncode != 0
    assert "runs in PyTorch, which is not installed here" in done.stderr


def test_glimpse_caption_and_models_need_no_pytorch() -> None:
    captioned = run(COMMAND, "caption", "docs/images/cat.jpg")
    assert captioned.returncode == 0, captioned.stderr
    assert "cat" in captioned.stdout
    listed = run(COMMAND, "models")
    assert listed.returncode == 0, listed.stderr
    assert DEFAULT_MODEL in listed.stdout


def test_service_with_openvino_imports_no_torch_where_it_is_installed() -> None:
    program = SERVICE.replace(', "/caption?model=nic"', "") + "print('torch' in sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", "import sys\n" + program, "auto"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
