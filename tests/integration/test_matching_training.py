"""Matching models through the command line, on drawn shapes: trained, resumed, exported, loaded."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from models.bundles.checkpoint import save_checkpoint
from models.bundles.registry import list_models, load_model
from models.errors import CheckpointError, ConfigError, UnknownModelError
from models.matching.bundle import list_matchers, load_matcher
from models.matching.nce import NceMatcher
from models.tokenizer import Vocabulary
from tests.unit.seeing_toys import KNOWN, seeing_config, seeing_model
from training.cli import app
from training.data.synthetic_shapes import write

_SETS = """
[[train]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "train.jsonl"
split = "all"

[[dev]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "dev.jsonl"
split = "all"
"""
_STAGES = """
[[stages]]
kind = "words"
epochs = 1
batch_size = 8

[[stages]]
kind = "pairs"
epochs = 2
batch_size = 4
hide_encoder = 0.3
memory = 8
hardest = 4
ema_decay = 0.5
"""


def experiment(name: str, kind: str, more: str = "") -> str:
    """The TOML of a small experiment."""
    head = f'name = "{name}"\neyes = "eyes"\nblanked_share = 1.0\ndev_photos = 3\ncandidates = 2\n'
    matcher = f'[matcher]\nkind = "{kind}"\nwidth = 8\nheads = 2\nembed_dim = 8\nblocks = 2\n'
    return head + more + matcher + _SETS + _STAGES


def run(folder: Path, command: str, name: str) -> str:
    """A command of `glimpse-train`, its folders all below one; gives what it printed."""
    places = ["--data-folder", str(folder), "--weights-folder", str(folder / "weights")]
    places += ["--runs-folder", str(folder / "runs")]
    if command == "match-train":
        places += ["--device", "cpu"]
    arguments = [command, str(folder / f"{name}.toml"), *places]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eyes of random weights, drawn shapes, and the three experiments, trained and exported."""
    folder = tmp_path_factory.mktemp("matching")
    write(folder / "shapes", train_count=8, dev_count=4, seed=3, size_pixels=64)
    config = seeing_config()
    save_checkpoint(
        folder / "weights" / "eyes", seeing_model(config), config, Vocabulary(KNOWN), {}
    )
    texts = {
        "finds": experiment("finds", "nce"),
        "fits": experiment("fits", "vilbert", 'nce = "finds"\n'),
        "fills": experiment("fills", "vl-bert"),
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
        run(folder, "match-train", name)
        run(folder, "match-export", name)
    return folder


def test_bundles_are_listed_apart_from_captioners(folder: Path) -> None:
    assert list_models(folder / "weights") == ["eyes"]
    assert list_matchers(folder / "weights") == ["fills", "finds", "fits"]


@pytest.mark.parametrize("name", ["finds", "fits", "fills"])
def test_bundle_has_the_best_weights_of_the_run_in_half_precision(folder: Path, name: str) -> None:
    bundle = load_matcher(folder / "weights", name)
    best = load_file(folder / "runs" / name / "state" / "best.safetensors")
    for key, tensor in bundle.model.state_dict().items():
        expected = best[key].half().float() if best[key].is_floating_point() else best[key]
        assert torch.equal(tensor, expected), key
    assert bundle.config.eyes == "eyes"
    assert not bundle.model.training
    assert bundle.model.table.class_words.any()


def test_training_moves_both_sides_and_leaves_the_eyes(folder: Path) -> None:
    before = load_model(folder / "weights", "eyes").model.state_dict()
    finds = load_matcher(folder / "weights", "finds").model
    assert isinstance(finds, NceMatcher)
    assert finds.log_scale.item() != pytest.approx(2.659, abs=1e-3)
    after = load_model(folder / "weights", "eyes").model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_features_are_cached_once_for_all_three(folder: Path) -> None:
    files = [path.name for path in (folder / "runs" / "cache").iterdir()]
    annotations = [name for name in files if name.startswith("annotations")]
    # train, dev, and the photos with hidden boxes, which both others draw alike
    assert len(annotations) == 3
    assert not any(name.endswith(".partial") for name in files)


def test_run_that_was_killed_goes_on_to_the_same_weights(folder: Path) -> None:
    text = (folder / "finds.toml").read_text(encoding="utf-8")
    (folder / "again.toml").write_text(
        text.replace('"finds"', '"again"').replace("epochs = 2", "epochs = 1"), encoding="utf-8"
    )
    run(folder, "match-train", "again")
    state = folder / "runs" / "again" / "state" / "state.json"
    assert state.exists()
    first = load_file(folder / "runs" / "again" / "state" / "best.safetensors")
    assert (
        first.keys() == load_file(folder / "runs" / "finds" / "state" / "best.safetensors").keys()
    )
    run(folder, "match-train", "again")  # done already: nothing is trained anew
    again = load_file(folder / "runs" / "again" / "state" / "best.safetensors")
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


def test_changed_architecture_is_refused(folder: Path) -> None:
    text = (folder / "finds.toml").read_text(encoding="utf-8")
    changed = folder / "changed.toml"
    changed.write_text(text.replace("width = 8", "width = 16"), encoding="utf-8")
    with pytest.raises(ConfigError, match="started with other architecture"):
        run(folder, "match-train", "changed")


def test_export_before_training_is_refused(folder: Path) -> None:
    text = (folder / "finds.toml").read_text(encoding="utf-8").replace('"finds"', '"never"')
    (folder / "never.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="no finished epoch"):
        run(folder, "match-export", "never")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "nce"', 'kind = "vilbert"', "nce: vilbert re-ranks what another model finds"),
        ('eyes = "eyes"', 'eyes = "eyes"\nnce = "finds"', "nce: nce needs no other model"),
        ("hardest = 4", "hardest = 4\nweights = { other = 1.0 }", "'other' must name a train"),
        ("dev_photos = 3", "dev_photos = 1", "dev_photos: Input should be greater"),
    ],
)
def test_contradictions_are_refused(folder: Path, old: str, new: str, message: str) -> None:
    text = (folder / "finds.toml").read_text(encoding="utf-8")
    assert old in text
    (folder / "bad.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        run(folder, "match-train", "bad")


def test_finder_that_is_no_nce_is_refused(folder: Path) -> None:
    text = (folder / "fits.toml").read_text(encoding="utf-8")
    text = text.replace('nce = "finds"', 'nce = "fills"').replace('"fits"', '"lost"')
    (folder / "lost.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="'fills' is a vl-bert"):
        run(folder, "match-train", "lost")


def test_eyes_without_a_tagger_are_refused(folder: Path) -> None:
    config = seeing_config("blind", tagger=None, decoder={"kind": "attention", "embed_dim": 8})
    save_checkpoint(
        folder / "weights" / "blind", seeing_model(config), config, Vocabulary(KNOWN), {}
    )
    text = (folder / "finds.toml").read_text(encoding="utf-8").replace('"eyes"', '"blind"')
    (folder / "unseeing.toml").write_text(text.replace('"finds"', '"unseeing"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="'blind' finds no objects"):
        run(folder, "match-train", "unseeing")
    (folder / "weights" / "blind" / "config.json").unlink()


def test_unknown_and_damaged_bundles_are_refused(folder: Path) -> None:
    with pytest.raises(UnknownModelError, match="There are: fills, finds, fits"):
        load_matcher(folder / "weights", "none")
    bundle = folder / "weights" / "matching" / "fills"
    config = bundle / "config.json"
    whole = config.read_bytes()
    config.write_bytes(whole + b" ")
    with pytest.raises(CheckpointError, match=r"config\.json does not match SHA256SUMS"):
        load_matcher(folder / "weights", "fills")
    config.write_bytes(whole)
    load_matcher(folder / "weights", "fills")
