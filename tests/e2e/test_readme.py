"""The README and the page on training, held to the code: every command, route, setting, file and
answer they show."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
from fastapi.routing import APIRoute
from PIL import Image

from app.api.options import CaptionOptions
from app.cli import cli as service_cli
from app.core.settings import Settings
from app.main import create_app
from models.bundles.registry import list_models
from models.decoders.config import DECODER_KINDS
from training.cli import app as training_cli
from training.config import StageConfig, load_config
from training.data.datasets import Kind, read_dataset

pytestmark = [pytest.mark.docs, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
PAGES = README + TRAINING
PROGRAMS = {"glimpse": service_cli, "glimpse-train": training_cli}
WAIT_SECONDS = 120
FAR_PHOTO = "https://example.org/photo.jpg"


def blocks(language: str, text: str = PAGES) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every command line that the pages tell a reader to type."""
    return [line for block in blocks("bash") for line in block.splitlines()]


def shown_answers() -> dict[str, Any]:
    """curl command -> the answer shown below it; None where none is shown."""
    asked = {line: None for line in commands() if line.startswith("curl ")}
    pairs = re.findall(
        r"```bash\n(curl [^\n]*)\n```\n\n<!-- begin answer -->\n```json\n(.*?)```",
        README,
        re.DOTALL,
    )
    assert len(pairs) == README.count("<!-- begin answer -->")
    return asked | {command: json.loads(answer) for command, answer in pairs}


# -- commands, settings, files ----


def test_documented_commands_all_exist_with_their_options() -> None:
    seen = set()
    for line in [*commands(), *re.findall(r"`((?:\.venv/bin/)?glimpse[^`]*)`", PAGES)]:
        found = re.search(r"(?:^|/)(glimpse(?:-train)?) (.*)", line)
        if not found:
            continue
        program = typer.main.get_command(PROGRAMS[found[1]])
        name, *arguments = shlex.split(found[2])
        if name == "--help":
            continue
        assert name in program.commands, line  # type: ignore[attr-defined]
        parameters = program.commands[name].params  # type: ignore[attr-defined]
        options = {
            option
            for parameter in parameters
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert {word for word in arguments if word.startswith("--")} <= options, line
        seen.add(name)
    assert {"train", "evaluate", "export", "shapes"} <= seen


def test_documented_options_of_training_all_exist() -> None:
    program = typer.main.get_command(training_cli)
    parameters = [p for command in program.commands.values() for p in command.params]  # type: ignore[attr-defined]
    options = {
        option
        for parameter in parameters
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    named = set(re.findall(r"`(--[a-z-]+)", PAGES)) - {"--help"}
    assert named
    assert named <= options


def test_documented_make_verbs_and_variables_all_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.findall(
        r"(?<![\w ])(?:\w+=\S+ )?make ([a-z]+)((?: [A-Z]+=\S+)*)",
        "\n".join([*commands(), *inline()]),
    )
    assert {"serve", "test", "train"} <= {verb for verb, _ in found}
    for verb, variables in found:
        assert re.search(rf"^{verb}:.*## ", makefile, re.MULTILINE), verb
        for variable in re.findall(r"([A-Z]+)=", variables):
            assert re.search(rf"^#   {variable}=", makefile, re.MULTILINE), variable


def inline() -> list[str]:
    """What the pages set in code within a sentence."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGES, flags=re.DOTALL))


def test_documented_programs_of_the_environment_are_installed() -> None:
    programs = {line.split()[0] for line in commands() if line.startswith(".venv/bin/")}
    assert ".venv/bin/glimpse-train" in programs
    for program in programs:
        assert (Path(sys.executable).parent / Path(program).name).exists(), program


def test_documented_settings_all_exist() -> None:
    named = set(re.findall(r"GLIMPSE_[A-Z_]+", PAGES))
    assert "GLIMPSE_PORT" in named
    assert named <= {f"GLIMPSE_{name.upper()}" for name in Settings.model_fields}


def test_documented_options_of_a_request_are_all_there_are() -> None:
    for name in CaptionOptions.model_fields:
        assert f"`{name}`" in README


def test_documented_files_of_the_repository_all_exist() -> None:
    paths = [
        word
        for word in re.findall(r"[\w./-]+", " ".join(commands()))
        if word.startswith(("docs/", "training/"))
    ]
    paths += re.findall(r'src="([^"]+)"', README)
    assert paths
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


def test_tree_of_folders_is_complete_and_true() -> None:
    (block,) = blocks("text", README)
    tree = re.findall(r"^(\S+)/ {2,}\S", block, re.MULTILINE)
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    folders = {name.partition("/")[0] for name in listing.splitlines() if "/" in name} | {"weights"}
    assert sorted(tree) == sorted(folders)
    assert all((ROOT / folder).is_dir() for folder in tree)


# -- routes ----


def test_documented_routes_all_exist_and_every_route_is_documented() -> None:
    routes = list(flat_routes())
    named = {
        path.partition("?")[0] for path in re.findall(r"localhost:8000(/[\w/{}?=&-]*)", README)
    }
    named |= set(re.findall(r"`(?:GET |POST )?(/[a-z]+(?:/\{name\})?)`", README))
    unknown = [
        path
        for path in named
        if not any(route.path == path or route.path_regex.match(path) for route in routes)
    ]
    assert not unknown
    documented = set(create_app(Settings(captioner="fake")).openapi()["paths"])
    assert documented <= named


def flat_routes() -> Iterator[APIRoute]:
    """Every route of the application, those of its routers among them."""
    application = create_app(Settings(captioner="fake"))
    waiting: list[Any] = list(application.routes)
    while waiting:
        route = waiting.pop()
        if isinstance(route, APIRoute):
            yield route
        else:
            router = getattr(route, "original_router", None) or getattr(route, "router", None)
            waiting += list(getattr(router, "routes", []))


# -- answers ----


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def far_port() -> Iterator[int]:
    """The port of a web server that has the documentation's photos."""
    images = partial(_Quiet, directory=str(ROOT / "docs" / "images"))
    with ThreadingHTTPServer(("127.0.0.1", 0), images) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, far_port: int) -> Iterator[str]:
    """The real service with the shipped weights, as its own process; "localhost:port" once it is
    ready."""
    log = tmp_path_factory.mktemp("readme") / "server.log"
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("GLIMPSE_")}
    fetching = {
        "GLIMPSE_FETCH_URLS": "true",
        "GLIMPSE_FETCH_PORTS": str(far_port),
        "GLIMPSE_FETCH_PRIVATE_NETWORKS": "127.0.0.1/32",
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", str(port)],
            cwd=ROOT,
            env=theirs | fetching,
            stderr=output,
        )
    try:
        end = time.monotonic() + WAIT_SECONDS
        while " ready " not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield f"localhost:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that has what the README's commands send."""
    for name in ("README.md", "docs/images/cat.jpg", "docs/images/coffee.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((ROOT / name).read_bytes())
    return tmp_path


def run_curl(command: str, address: str, folder: Path) -> tuple[int, bytes]:
    """Run a command as the README has it, but for the port; give the status and the body."""
    assert "localhost:8000" in command
    words = [
        *shlex.split(command.replace("localhost:8000", address)),
        "-sS",
        "-w",
        "\n%{http_code}",
    ]
    done = subprocess.run(words, cwd=folder, capture_output=True, timeout=WAIT_SECONDS, check=True)
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def assert_has(answer: Any, shown: Any, where: str = "answer") -> None:
    """What is shown is of the same form as the answer: the same fields but for "…", and values of
    the same types."""
    if shown == "…":
        return
    if isinstance(shown, dict):
        assert isinstance(answer, dict), where
        names = [name for name in shown if name != "…"]
        assert [name for name in answer if "…" not in shown or name in shown] == names, where
        for name in names:
            assert_has(answer[name], shown[name], f"{where}.{name}")
    elif isinstance(shown, list):
        assert isinstance(answer, list), where
        for each, value in zip(answer, shown, strict=False):
            assert_has(each, value, f"{where}[]")
    else:
        assert isinstance(shown, int | float) == isinstance(answer, int | float), where
        assert isinstance(shown, str) == isinstance(answer, str), where


def assert_captioned(answer: Any) -> None:
    """It has captions, or every answer in it does."""
    answers = [each["answer"] for each in answer["pictures"]] if "pictures" in answer else [answer]
    assert all(each["caption"] for each in answers)


def test_documented_python_prints_the_caption(address: str, folder: Path) -> None:
    (program,) = blocks("python", README)
    done = subprocess.run(
        [sys.executable, "-c", program.replace("localhost:8000", address)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    assert "cat" in done.stdout


def test_documented_picture_as_base64_is_captioned(address: str, folder: Path) -> None:
    (command,) = [line for line in commands() if "base64" in line]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace("localhost:8000", address)],
        cwd=folder,
        capture_output=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    assert_captioned(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("command", "shown"),
    [each for each in shown_answers().items() if FAR_PHOTO not in each[0]],
)
def test_documented_request_is_answered_as_shown(
    command: str, shown: Any, address: str, folder: Path
) -> None:
    status, body = run_curl(command, address, folder)
    if shown is None and " -o " in command:
        assert status == 200
        written = shlex.split(command)[shlex.split(command).index("-o") + 1]
        with Image.open(folder / written) as image:
            assert image.format == "PNG"
            assert min(image.size) > 300
    elif shown is None:
        assert status == 200
        assert_captioned(json.loads(body))
    else:
        assert status == shown.get("status", 200)
        assert_has(json.loads(body), shown)


def test_documented_request_by_url_is_answered_as_the_upload_is(
    address: str, folder: Path, far_port: int
) -> None:
    (command,) = [line for line in shown_answers() if FAR_PHOTO in line]
    near = command.replace(FAR_PHOTO, f"http://127.0.0.1:{far_port}/cat.jpg")
    status, body = run_curl(near, address, folder)
    upload = run_curl("curl -F image=@docs/images/cat.jpg localhost:8000/caption", address, folder)
    assert (status, upload[0]) == (200, 200)
    assert json.loads(body)["captions"] == json.loads(upload[1])["captions"]


def test_documented_answers_are_of_the_default_models_weights(address: str, folder: Path) -> None:
    """Stale ones are written anew by docs/refresh.py."""
    _, body = run_curl("curl localhost:8000/models", address, folder)
    models = json.loads(body)["models"]
    (default,) = [model for model in models if model["default"]]
    digests = set(re.findall(r'"digest": "([0-9a-f]{64})"', README))
    examples = json.loads((ROOT / "app" / "web" / "examples.json").read_text(encoding="utf-8"))
    digests |= {examples["caption"]["model"]["digest"], examples["models"]["models"][0]["digest"]}
    assert digests == {default["digest"]}
    listed = shown_answers()["curl localhost:8000/models"]["models"]
    assert [model["name"] for model in listed] == [model["name"] for model in models]


def test_documented_loop_prints_every_models_caption(address: str) -> None:
    found = re.search(
        r"```bash\n([^`]*)```\n\n<!-- begin side by side -->\n```console\n(.*?)```",
        README,
        re.DOTALL,
    )
    assert found
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", found[1].replace("localhost:8000", address)],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    lines, shown = (
        [line.split(": ") for line in text.splitlines()] for text in (done.stdout, found[2])
    )
    assert (
        [line[0] for line in lines] == [line[0] for line in shown] == list_models(ROOT / "weights")
    )
    assert all(len(line) == 2 and line[1] for line in lines)


def test_documented_scores_are_those_of_metrics_json() -> None:
    """Stale ones are written anew by glimpse-train table; of a model that came after it, the card
    is named."""
    table, _, after = README.partition("<!-- begin table -->")[2].partition("<!-- end table -->")
    header, _, *rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()]
    documented = {
        row[0].strip("`"): dict(zip(header, row[1:], strict=False))
        for row in rows
        if row[0].startswith("`")
    }
    newer = set(list_models(ROOT / "weights")) - set(documented)
    assert set(documented) <= set(list_models(ROOT / "weights"))
    assert all(f"weights/{name}/MODEL_CARD.md" in after for name in newer)
    assert len(newer) < len(documented) / 2
    for name, cells in documented.items():
        metrics = json.loads((ROOT / "weights" / name / "metrics.json").read_text(encoding="utf-8"))
        for title, cell in cells.items():
            chosen, _, metric = title.partition(": ")
            if metric:
                value = metrics["sets"][chosen].get(metric)
                assert cell == ("–" if value is None else f"{100 * value:.1f}"), (name, title)


def test_documented_examples_of_the_api_sum_to_one() -> None:
    examples = json.loads((ROOT / "app" / "web" / "examples.json").read_text(encoding="utf-8"))
    grid = examples["attention"]["grid"]
    for word in examples["attention"]["words"]:
        assert [len(row) for row in word["alpha"]] == [grid["columns"]] * grid["rows"]
        assert sum(map(sum, word["alpha"])) == pytest.approx(1.0, abs=1e-3)


# -- training ----


def test_documented_experiment_reads_the_documented_list(tmp_path: Path) -> None:
    """It is the one of docs/own-photos.md, which another test trains."""
    (experiment,) = blocks("toml", README)
    (tmp_path / "own-photos.toml").write_text(experiment, encoding="utf-8")
    (lines,) = [block for block in blocks("json", README) if block.startswith('{"file"')]
    root = tmp_path / "data" / "own-photos"
    (root / "images").mkdir(parents=True)
    for line in lines.splitlines():
        Image.new("RGB", (64, 48)).save(root / json.loads(line)["file"])
    for split in ("train", "dev"):
        (root / f"{split}.jsonl").write_text(lines, encoding="utf-8")

    config = load_config(tmp_path / "own-photos.toml", tmp_path / "data")
    assert f"{config.name}.toml" in README
    for dataset in (*config.train, *config.dev):
        images, report = read_dataset(dataset)
        assert [image.key for image in images] == ["images/beach.jpg", "images/kitchen.jpg"]
        assert not report.problems
    shown = (ROOT / "docs" / "own-photos.md").read_text(encoding="utf-8")
    assert f'```toml title="own-photos.toml"\n{experiment}```' in shown


def test_documented_kinds_of_data_stages_and_decoders_are_all_there_are() -> None:
    tables = re.findall(r"^\| (`?\w+`?) \|.*\n\|[-|]+\n((?:\|.*\n)+)", TRAINING, re.MULTILINE)
    named: dict[str, set[str]] = {}
    for header, rows in tables:
        firsts = re.findall(r"^\| ([^|]*) \|", rows, re.MULTILINE)
        named.setdefault(header, set()).update(re.findall(r"`([a-z0-9-]+)`", " ".join(firsts)))
    assert named["kind"] == {
        *get_args(Kind),
        *(stage.model_fields["kind"].default for stage in get_args(StageConfig)),
    }
    assert named["`decoder`"] == set(DECODER_KINDS)
