"""`glimpse-train` from a newcomer's first command to a bundle that the service loads, and its answers to mistakes."""

import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from models.captioner import load_captioner
from training.cli import app, main
from training.data import DatasetConfig, read_dataset
from training.state import load_state

COMMANDS = ("train", "shapes", "export", "average", "evaluate", "table", "maps", "calibrate")
EXPERIMENT = """
name = "tiny-shapes"
min_count = 1
max_length = 10
captions_per_photo = 2

[architecture]
encoder = "tiny"
size_pixels = 56
pretrained = false
embed_dim = 32
decoder_dim = 48
attention_dim = 32
dropout = 0.0

[decoding]
beam_size = 2
max_length = 10

[[train]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "train"

[[dev]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "dev"

[[test]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "test"

[[stages]]
kind = "finetune"
epochs = 1
batch_size = 16
learning_rate = 3e-3
encoder_learning_rate = 2e-3
ema_decay = 0.0
augment = false
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """A folder with everything: the experiment, data/shapes, runs/ and weights/."""

    folder: Path

    @property
    def experiment(self) -> Path:
        return self.folder / "tiny-shapes.toml"

    @property
    def bundle(self) -> Path:
        return self.folder / "weights" / "tiny-shapes"

    def run(self, command: str, *options: str, experiment: Path | None = None) -> Answer:
        """Run a command on the experiment, its folders all below this one."""
        flags = {"train": ("data", "encoders", "runs"), "export": ("data", "runs", "weights")}
        flags["evaluate"] = ("data", "weights")
        folders = [text for name in flags[command] for text in (f"--{name}-folder", str(self.folder / name))]
        return glimpse_train(command, str(experiment or self.experiment), *folders, *options)

    def variant(self, *changes: tuple[str, str]) -> Path:
        """Write the experiment anew with texts replaced."""
        text = EXPERIMENT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = self.folder / "variant.toml"
        path.write_text(text, encoding="utf-8")
        return path


def glimpse_train(*arguments: str) -> Answer:
    """Run the command line in this process, on a machine without Java."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
            patch.delenv(name, raising=False)
        patch.setenv("PATH", "")
        patch.setattr(sys, "argv", ["glimpse-train", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
    code = exited.value.code
    return Answer(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def drawn(folder: Path) -> Place:
    """A place with the experiment and its drawn pictures; the test set is the dev set under another name."""
    place = Place(folder)
    place.experiment.write_text(EXPERIMENT, encoding="utf-8")
    shapes = folder / "data" / "shapes"
    answer = glimpse_train("shapes", str(shapes), "--train-count", "64", "--dev-count", "12", "--seed", "3")
    assert answer.code == 0, answer.err
    shutil.copy(shapes / "dev.jsonl", shapes / "test.jsonl")
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The experiment, trained, exported and evaluated; tests only read it."""
    place = drawn(tmp_path_factory.mktemp("trained"))
    for command, *options in (("train", "--device", "cpu"), ("export",), ("evaluate", "--write", "--without-meteor")):
        answer = place.run(command, *options)
        assert answer.code == 0, answer.err
    return place


@pytest.fixture
def copy(place: Place, tmp_path: Path) -> Place:
    """The same, to be spoilt."""
    shutil.copytree(place.folder, tmp_path / "copy")
    return Place(tmp_path / "copy")


# ---------------------------------------------------------------------- help


def parameters() -> Iterator[tuple[str, Any]]:
    group: Any = typer.main.get_command(app)
    assert set(group.commands) == set(COMMANDS)
    for name, command in group.commands.items():
        for parameter in command.params:
            if parameter.name != "help":
                yield name, parameter


def test_help_of_the_module_lists_every_command(repository: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "training", "--help"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0
    for command in COMMANDS:
        assert command in finished.stdout
    assert finished.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_says_what_it_does_and_names_every_option(command: str) -> None:
    answer = glimpse_train(command, "--help")
    assert answer.code == 0
    assert "Usage: glimpse-train" in answer.out
    for name, parameter in parameters():
        if name == command:
            assert parameter.opts[0] in answer.out
    assert re.search(r"(?<!\w)\.safetensors", answer.out) is None  # markup must not swallow a <name>


def test_help_every_option_is_explained() -> None:
    assert [f"{name} {parameter.name}" for name, parameter in parameters() if not parameter.help] == []


# ---------------------------------------------------------------------- from shapes to a bundle


def test_shapes_writes_a_set_that_can_be_read(place: Place) -> None:
    for split, count in (("train", 64), ("dev", 12)):
        config = DatasetConfig(
            name="shapes", kind="jsonl", root=place.folder / "data" / "shapes", split=split, verify_images=True
        )
        photos, report = read_dataset(config)
        assert (len(photos), report.problems) == (count, [])


def test_shapes_same_seed_draws_the_same(place: Place, tmp_path: Path) -> None:
    glimpse_train("shapes", str(tmp_path), "--train-count", "64", "--dev-count", "12", "--seed", "3")
    assert (tmp_path / "boxes.json").read_bytes() == (place.folder / "data/shapes/boxes.json").read_bytes()


def test_train_leaves_curves_captions_maps_and_a_history(place: Place) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = place.folder / "runs" / "tiny-shapes"
    (epoch,) = json.loads((run / "history.json").read_text(encoding="utf-8"))
    lines = (run / "captions-shapes.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 12
    assert json.loads(lines[0]).keys() == {"key", "caption"}
    curves = EventAccumulator(str(run / "curves")).Reload()
    plotted = [point.value for tag in curves.Tags()["scalars"] if "dev" in tag for point in curves.Scalars(tag)]
    assert plotted == [pytest.approx(epoch["shapes"], rel=1e-5)]
    assert curves.Tags()["images"]


def test_train_once_more_after_the_end_changes_nothing(copy: Place) -> None:
    before = load_state(copy.folder / "runs" / "tiny-shapes" / "state")
    assert copy.run("train", "--device", "cpu").code == 0
    after = load_state(copy.folder / "runs" / "tiny-shapes" / "state")
    assert before is not None
    assert after is not None
    assert before[1] == after[1]
    for name, tensor in before[0]["best"].items():
        assert torch.equal(tensor, after[0]["best"][name])


def test_train_from_a_bundle_takes_its_words_and_architecture(copy: Place) -> None:
    """What the experiment says of either is not asked: the bundle's weights mean nothing with others."""
    changes = (
        ('name = "tiny-shapes"', 'name = "second"\nstart_from = "tiny-shapes"'),
        ("min_count = 1", "min_count = 60"),
        ("decoder_dim = 48", "decoder_dim = 8"),
        ("beam_size = 2", "beam_size = 3"),
    )
    second = copy.variant(*changes)
    for command in ("train", "export"):
        answer = copy.run(command, "--weights-folder", str(copy.folder / "weights"), experiment=second)
        assert answer.code == 0, answer.err
    before, after = (load_captioner(copy.folder / "weights", name).info for name in ("tiny-shapes", "second"))
    assert (copy.bundle / "vocab.json").read_bytes() == (copy.bundle.parent / "second" / "vocab.json").read_bytes()
    assert after.config.decoder_dim == before.config.decoder_dim == 48
    assert after.config.decoding.beam_size == 3
    assert after.digest != before.digest


def test_export_writes_the_best_weights_in_half_precision(place: Place) -> None:
    assert {path.name for path in place.bundle.iterdir()} == {
        "model.safetensors", "config.json", "vocab.json", "metrics.json", "SHA256SUMS",
    }  # fmt: skip
    found = load_state(place.folder / "runs" / "tiny-shapes" / "state")
    assert found is not None
    captioner = load_captioner(place.folder / "weights", "tiny-shapes", precision="float32")
    assert captioner.info.config.decoding.beam_size == 2
    for name, tensor in captioner._model.state_dict().items():
        assert torch.equal(tensor, found[0]["best"][name].half().float())


def test_exported_bundle_is_served(place: Place) -> None:
    photo = place.folder / "data" / "shapes" / "images" / "dev-00000.png"
    settings = Settings(weights_folder=place.folder / "weights", model="tiny-shapes")
    with TestClient(create_app(settings)) as client:
        end = time.monotonic() + 60
        while client.get("/readyz").status_code != 200 and time.monotonic() < end:
            time.sleep(0.05)
        answer = client.post("/caption", files={"image": photo.read_bytes()})
    assert answer.status_code == 200
    assert answer.json()["model"]["name"] == "tiny-shapes"
    written = place.folder / "served.jsonl"
    place.run("evaluate", "--dev-only", "--captions-file", str(written))
    first = json.loads(written.read_text(encoding="utf-8").splitlines()[0])
    assert first["key"] == "images/dev-00000.png"
    assert answer.json()["caption"] == first["caption"]


# ---------------------------------------------------------------------- evaluate


def test_evaluate_prints_every_metric_of_every_set_and_that_meteor_was_left_out(place: Place) -> None:
    out = place.run("evaluate").out
    for name in ("shapes dev", "shapes test"):
        assert f"{name}: 12 photos, 24 references" in out
    for metric in ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"):
        assert out.count(f"  {metric} ") == 2
    assert out.count("METEOR") == out.count("left out") == 2
    assert "Java" in out


def test_evaluate_again_reproduces_metrics_json_exactly(copy: Place) -> None:
    before = {path.name: path.read_bytes() for path in copy.bundle.iterdir()}
    answer = copy.run("evaluate", "--write", "--without-meteor")
    assert answer.code == 0
    assert answer.out.count("difference +0.00") == 12  # six metrics of two sets
    assert {path.name: path.read_bytes() for path in copy.bundle.iterdir()} == before
    metrics = json.loads(before["metrics.json"])
    assert metrics["sets"].keys() == {"shapes dev", "shapes test"}
    assert metrics["decoding"]["beam_size"] == 2


def test_evaluate_without_write_leaves_the_bundle_as_it_is(copy: Place) -> None:
    before = (copy.bundle / "metrics.json").read_bytes()
    assert copy.run("evaluate", "--beam-size", "1", "--precision", "float32").code == 0
    assert (copy.bundle / "metrics.json").read_bytes() == before


def test_evaluate_write_without_java_is_refused_before_anything_is_captioned(copy: Place) -> None:
    before = {path.name: path.read_bytes() for path in copy.bundle.iterdir()}
    (copy.folder / "data" / "shapes" / "dev.jsonl").unlink()
    assert_one_sentence(copy.run("evaluate", "--write"), "give --without-meteor to leave it out")
    assert {path.name: path.read_bytes() for path in copy.bundle.iterdir()} == before


def test_evaluate_dev_only_never_opens_the_test_set(copy: Place) -> None:
    (copy.folder / "data" / "shapes" / "test.jsonl").unlink()
    answer = copy.run("evaluate", "--dev-only")
    assert answer.code == 0
    assert "shapes test" not in answer.out


def test_evaluate_captions_file_holds_a_line_for_each_photo(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "new" / "captions.jsonl"
    assert place.run("evaluate", "--captions-file", str(path)).code == 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["set"] for line in lines] == ["shapes dev"] * 12 + ["shapes test"] * 12
    assert all(line["caption"] and len(line["references"]) == 2 for line in lines)


def test_evaluate_damaged_picture_is_named_and_stops_it_only_above_the_limit(copy: Place) -> None:
    (copy.folder / "data" / "shapes" / "images" / "dev-00004.png").write_bytes(b"no picture")
    refused = copy.run("evaluate", "--dev-only")
    assert_one_sentence(refused, "dev-00004.png")
    lenient = copy.variant(('split = "dev"', 'split = "dev"\nmax_problems = 1'))
    allowed = copy.run("evaluate", "--dev-only", experiment=lenient)
    assert allowed.code == 0
    assert "dev-00004.png" in allowed.err
    assert "shapes dev: 11 photos" in allowed.out


# ---------------------------------------------------------------------- mistakes


def assert_one_sentence(answer: Answer, expected: str) -> None:
    assert answer.code == 1
    assert "Traceback" not in answer.err
    said = [line for line in answer.err.splitlines() if line.startswith("glimpse-train: ")]
    assert len(said) == 1
    assert answer.err.rstrip().endswith(said[0])
    assert expected in said[0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('encoder = "tiny"', 'encoder = "resnet9000"'), "No encoder is called 'resnet9000'"),
        (("size_pixels = 56", "size_pixels = 64"), "not for 64"),
        (("pretrained = false", "pretrained = true"), "No pretrained weights at"),
        (('root = "shapes"', 'root = "absent"'), "there is no folder"),
        (("embed_dim = 32", "embed_dim = "), "is no TOML"),
        (("embed_dim = 32", "embed_dim = 0"), "architecture.embed_dim"),
        (("min_count = 1", "min_count = 9999"), "No word occurs 9999 times"),
        (("min_count = 1", 'min_count = 1\nstart_from = "absent"'), "There is no model folder"),
    ],
)
def test_train_mistake_in_the_experiment_is_one_sentence(
    place: Place, tmp_path: Path, change: tuple[str, str], expected: str
) -> None:
    answer = place.run("train", "--runs-folder", str(tmp_path), experiment=place.variant(change))
    assert_one_sentence(answer, expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_train_on_a_gpu_that_is_not_there_is_one_sentence(place: Place) -> None:
    assert_one_sentence(place.run("train", "--device", "cuda"), "no GPU")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("min_count = 1", "min_count = 60"), "other words"),
        (("decoder_dim = 48", "decoder_dim = 49"), "other architecture"),
        (("size_pixels = 56", "size_pixels = 55"), "other architecture"),
    ],
)
@pytest.mark.parametrize("command", ["train", "export"])
def test_going_on_with_another_architecture_or_vocabulary_is_refused(
    copy: Place, command: str, change: tuple[str, str], expected: str
) -> None:
    assert_one_sentence(copy.run(command, experiment=copy.variant(change)), expected)


def test_export_before_training_says_so(place: Place, tmp_path: Path) -> None:
    assert_one_sentence(place.run("export", "--runs-folder", str(tmp_path)), "train first")


def test_evaluate_before_exporting_says_so(place: Place, tmp_path: Path) -> None:
    assert_one_sentence(place.run("evaluate", "--weights-folder", str(tmp_path)), "No model is called 'tiny-shapes'")


def test_evaluate_damaged_bundle_says_so(copy: Place) -> None:
    with (copy.bundle / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert_one_sentence(copy.run("evaluate"), "damaged or changed")


@pytest.mark.parametrize(
    "arguments",
    [("train", "absent.toml"), ("evaluate", "absent.toml"), ("fly",), ("shapes", "x", "--train-count", "0")],
)
def test_wrong_usage_exits_with_two_and_shows_the_usage(arguments: tuple[str, ...]) -> None:
    answer = glimpse_train(*arguments)
    assert answer.code == 2
    assert "Usage" in answer.err
