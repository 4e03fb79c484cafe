"""`glimpse-train` from a newcomer's first command to a bundle that the service loads."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from models.bundles.checkpoint import load_checkpoint
from models.loading import load_captioner
from tests.integration.experiment import Place, glimpse_train
from training.cli import app
from training.data.datasets import DatasetConfig, read_dataset
from training.run_state import load_state

COMMANDS = (
    "train",
    "shapes",
    "vit-weights",
    "export",
    "average",
    "evaluate",
    "table",
    "maps",
    "calibrate",
    "sixty",
    "ablation",
    "match-train",
    "match-export",
    "retrieval",
    "train-translator",
    "export-translator",
    "translate-lines",
    "translations",
)


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
        [sys.executable, "-m", "training", "--help"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
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
    # markup must not swallow a <name>
    assert re.search(r"(?<!\w)\.safetensors", answer.out) is None


def test_help_every_option_is_explained() -> None:
    assert [
        f"{name} {parameter.name}" for name, parameter in parameters() if not parameter.help
    ] == []


# ---------------------------------------------------------------------- from shapes to a bundle


def test_shapes_writes_a_set_that_can_be_read(place: Place) -> None:
    for split, count in (("train", 64), ("dev", 12)):
        config = DatasetConfig(
            name="shapes",
            kind="jsonl",
            root=place.folder / "data" / "shapes",
            split=split,
            verify_images=True,
        )
        images, report = read_dataset(config)
        assert (len(images), report.problems) == (count, [])


def test_shapes_same_seed_draws_the_same(place: Place, tmp_path: Path) -> None:
    glimpse_train(
        "shapes", str(tmp_path), "--train-count", "64", "--dev-count", "12", "--seed", "3"
    )
    assert (tmp_path / "boxes.json").read_bytes() == (
        place.folder / "data/shapes/boxes.json"
    ).read_bytes()


def test_train_leaves_curves_captions_maps_and_a_history(place: Place) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = place.folder / "runs" / "tiny-shapes"
    (epoch,) = json.loads((run / "history.json").read_text(encoding="utf-8"))
    lines = (run / "captions-shapes.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 12
    assert json.loads(lines[0]).keys() == {"key", "caption"}
    curves = EventAccumulator(str(run / "curves")).Reload()
    plotted = [
        point.value
        for tag in curves.Tags()["scalars"]
        if "dev" in tag
        for point in curves.Scalars(tag)
    ]
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
    """What the experiment says of either is not asked: the bundle's weights mean nothing with
    others."""
    changes = (
        ('name = "tiny-shapes"', 'name = "second"\nstart_from = "tiny-shapes"'),
        ("min_count = 1", "min_count = 60"),
        ("decoder_dim = 48", "decoder_dim = 8"),
        ("beam_size = 2", "beam_size = 3"),
    )
    second = copy.variant(*changes)
    for command in ("train", "export"):
        answer = copy.run(
            command, "--weights-folder", str(copy.folder / "weights"), experiment=second
        )
        assert answer.code == 0, answer.err
    before, after = (
        load_captioner(copy.folder / "weights", name).info for name in ("tiny-shapes", "second")
    )
    assert (copy.bundle / "vocab.json").read_bytes() == (
        copy.bundle.parent / "second" / "vocab.json"
    ).read_bytes()
    assert after.config.describe()["decoder_dim"] == before.config.describe()["decoder_dim"] == 48
    assert after.config.decoding.beam_size == 3
    assert after.digest != before.digest


def test_export_writes_the_best_weights_in_half_precision(place: Place) -> None:
    assert {path.name for path in place.bundle.iterdir()} == {
        "model.safetensors", "config.json", "vocab.json", "metrics.json", "SHA256SUMS",
    }  # fmt: skip
    found = load_state(place.folder / "runs" / "tiny-shapes" / "state")
    assert found is not None
    bundle = load_checkpoint(place.bundle)
    assert bundle.config.decoding.beam_size == 2
    for name, tensor in bundle.model.state_dict().items():
        assert torch.equal(tensor, found[0]["best"][name].half().float())


def test_exported_bundle_is_served(place: Place) -> None:
    image = place.folder / "data" / "shapes" / "images" / "dev-00000.png"
    settings = Settings(weights_folder=place.folder / "weights", model="tiny-shapes")
    with TestClient(create_app(settings)) as client:
        end = time.monotonic() + 60
        while client.get("/readyz").status_code != 200 and time.monotonic() < end:
            time.sleep(0.05)
        answer = client.post("/caption", files={"image": image.read_bytes()})
    assert answer.status_code == 200
    assert answer.json()["model"]["name"] == "tiny-shapes"
    written = place.folder / "served.jsonl"
    place.run("evaluate", "--dev-only", "--captions-file", str(written))
    first = json.loads(written.read_text(encoding="utf-8").splitlines()[0])
    assert first["key"] == "images/dev-00000.png"
    assert answer.json()["caption"] == first["caption"]


# ---------------------------------------------------------------------- evaluate


def test_evaluate_prints_every_metric_of_every_set_and_that_meteor_was_left_out(
    place: Place,
) -> None:
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
    assert answer.out.count("difference +0.00") == 14  # seven metrics of two sets
    assert {path.name: path.read_bytes() for path in copy.bundle.iterdir()} == before
    metrics = json.loads(before["metrics.json"])
    assert metrics["sets"].keys() == {"shapes dev", "shapes test"}
    assert metrics["decoding"]["beam_size"] == 2


def test_evaluate_without_write_leaves_the_bundle_as_it_is(copy: Place) -> None:
    before = (copy.bundle / "metrics.json").read_bytes()
    assert copy.run("evaluate", "--beam-size", "1", "--precision", "float32").code == 0
    assert (copy.bundle / "metrics.json").read_bytes() == before


def test_evaluate_dev_only_never_opens_the_test_set(copy: Place) -> None:
    (copy.folder / "data" / "shapes" / "test.jsonl").unlink()
    answer = copy.run("evaluate", "--dev-only")
    assert answer.code == 0
    assert "shapes test" not in answer.out


def test_evaluate_captions_file_holds_a_line_for_each_image(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "new" / "captions.jsonl"
    assert place.run("evaluate", "--captions-file", str(path)).code == 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["set"] for line in lines] == ["shapes dev"] * 12 + ["shapes test"] * 12
    assert all(line["caption"] and len(line["references"]) == 2 for line in lines)
