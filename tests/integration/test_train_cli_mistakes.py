"""`glimpse-train` and mistakes: each is answered with one sentence, and spoils nothing that was
there."""

from pathlib import Path

import pytest
import torch

from tests.integration.experiment import Answer, Place, glimpse_train


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
    assert_one_sentence(
        place.run("evaluate", "--weights-folder", str(tmp_path)), "No model is called 'tiny-shapes'"
    )


def test_evaluate_write_without_java_is_refused_before_anything_is_captioned(copy: Place) -> None:
    before = {path.name: path.read_bytes() for path in copy.bundle.iterdir()}
    (copy.folder / "data" / "shapes" / "dev.jsonl").unlink()
    assert_one_sentence(copy.run("evaluate", "--write"), "give --without-meteor to leave it out")
    assert {path.name: path.read_bytes() for path in copy.bundle.iterdir()} == before


def test_evaluate_damaged_image_is_named_and_stops_it_only_above_the_limit(copy: Place) -> None:
    (copy.folder / "data" / "shapes" / "images" / "dev-00004.png").write_bytes(b"no picture")
    refused = copy.run("evaluate", "--dev-only")
    assert_one_sentence(refused, "dev-00004.png")
    lenient = copy.variant(('split = "dev"', 'split = "dev"\nmax_problems = 1'))
    allowed = copy.run("evaluate", "--dev-only", experiment=lenient)
    assert allowed.code == 0
    assert "dev-00004.png" in allowed.err
    assert "shapes dev: 11 photos" in allowed.out


def test_evaluate_damaged_bundle_says_so(copy: Place) -> None:
    with (copy.bundle / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert_one_sentence(copy.run("evaluate"), "damaged or changed")


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "absent.toml"),
        ("evaluate", "absent.toml"),
        ("fly",),
        ("shapes", "x", "--train-count", "0"),
    ],
)
def test_wrong_usage_exits_with_two_and_shows_the_usage(arguments: tuple[str, ...]) -> None:
    answer = glimpse_train(*arguments)
    assert answer.code == 2
    assert "Usage" in answer.err
