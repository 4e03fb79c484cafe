"""Matching models through the command line, on drawn shapes: trained, resumed, exported, loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from models.bundles.checkpoint import save_checkpoint
from models.bundles.registry import list_models, load_model
from models.errors import CheckpointError, ConfigError, UnknownModelError
from models.matching.bundle import build_matcher, check_eyes, list_matchers, load_matcher
from models.tokenizer import Vocabulary
from tests.unit.seeing_toys import seeing_config
from tests.unit.toys import tiny_config, tiny_model
from training.cli import app
from training.data.synthetic_shapes import write
from training.initialization import tell_words
from training.matching.trainer import MatchTrainer

_SETS = """
[[train]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "train.jsonl"
split = "all"
entities = "entities.jsonl"

[[dev]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "dev.jsonl"
split = "all"

[[test]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "dev.jsonl"
split = "all"
entities = "entities.jsonl"
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


def write_entities(shapes: Path) -> Vocabulary:
    """Write Flickr30k Entities for drawn shapes; give the words of their captions."""
    boxes = json.loads((shapes / "boxes.json").read_text(encoding="utf-8"))
    lines = []
    texts: list[str] = []
    for part in ("train.jsonl", "dev.jsonl"):
        for line in (shapes / part).read_text(encoding="utf-8").splitlines():
            image = json.loads(line)
            own = boxes[image["file"]]
            captions = []
            for text in image["captions"]:
                words = text.split()
                phrases = [
                    {"start": place - 2, "end": place + 1, "entity": word}
                    for place, word in enumerate(words)
                    if word in own
                ]
                captions.append({"words": words, "phrases": phrases})
                texts.append(text)
            named = {word: [box] for word, box in own.items()}
            lines.append(json.dumps({"file": image["file"], "captions": captions, "boxes": named}))
    (shapes / "entities.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Vocabulary.build(texts, 1)


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
    vocabulary = write_entities(folder / "shapes")
    config = seeing_config(vocab_size=len(vocabulary))
    model = tiny_model(config)
    tell_words(model, vocabulary)
    save_checkpoint(folder / "weights" / "eyes", model, config, vocabulary, {})
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
    bundle = load_matcher(folder / "weights", "finds")
    torch.manual_seed(0)  # the experiment's
    first = build_matcher(
        bundle.config.matcher, bundle.config.vocab_size, bundle.config.feature_dim
    ).state_dict()
    trained = bundle.model.state_dict()
    for name in ("region_embedding.seen.weight", "sentence_space.weight", "pooling.query"):
        assert not torch.equal(trained[name], first[name].half().float()), name
    after = load_model(folder / "weights", "eyes").model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_features_are_cached_once_for_all_three(folder: Path) -> None:
    files = [path.name for path in (folder / "runs" / "cache").iterdir()]
    annotations = [name for name in files if name.startswith("annotations")]
    # train, dev, and the photos with hidden boxes, which both others draw alike
    assert len(annotations) == 3
    assert not any(name.endswith(".partial") for name in files)


def test_run_that_was_killed_goes_on_to_the_same_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "finds.toml").read_text(encoding="utf-8")
    (folder / "again.toml").write_text(text.replace('"finds"', '"again"'), encoding="utf-8")
    train_epoch = MatchTrainer._train_epoch

    def killed(self: MatchTrainer, *arguments: Any, **options: Any) -> None:
        if (self.progress.stage, self.progress.epoch) == (1, 1):
            raise InterruptedError
        train_epoch(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MatchTrainer, "_train_epoch", killed)
        with pytest.raises(InterruptedError):
            run(folder, "match-train", "again")
    run(folder, "match-train", "again")

    unbroken, resumed = (
        load_file(folder / "runs" / name / "state" / "best.safetensors")
        for name in ("finds", "again")
    )
    assert unbroken.keys() == resumed.keys()
    for name, tensor in unbroken.items():
        torch.testing.assert_close(resumed[name], tensor, msg=name)


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
    vocabulary = load_model(folder / "weights", "eyes").vocabulary
    config = tiny_config("blind", vocab_size=len(vocabulary))
    save_checkpoint(folder / "weights" / "blind", tiny_model(config), config, vocabulary, {})
    text = (folder / "finds.toml").read_text(encoding="utf-8").replace('"eyes"', '"blind"')
    (folder / "unseeing.toml").write_text(text.replace('"finds"', '"unseeing"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="'blind' finds no objects"):
        run(folder, "match-train", "unseeing")
    shutil.rmtree(folder / "weights" / "blind")


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


# -- measured ----


@pytest.fixture(scope="module")
def measured(folder: Path) -> Path:
    """The page of all that was measured."""
    page = folder / "docs" / "matching.md"
    result = CliRunner().invoke(
        app,
        [
            "retrieval",
            *("--experiment", str(folder / "finds.toml"), "--output", str(page)),
            *("--data-folder", str(folder), "--weights-folder", str(folder / "weights")),
            *("--finder", "finds", "--reranker", "fits", "--filler", "fills"),
            *("--photos-sheet", str(folder / "sheet.jpg")),
        ],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    return page


def test_retrieval_writes_a_page_of_everything_and_its_figures(measured: Path) -> None:
    text = measured.read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Found",
        "## Blanks filled",
        "## Hidden regions",
        "## Told apart",
        "## Captions chosen",
        "## Twelve queries",
    ]
    document = json.loads(measured.with_suffix(".json").read_text(encoding="utf-8"))
    assert document["photos"] == 4
    assert document["captions"] == 8
    assert document["region_photos"] == 4
    assert 0 <= document["found"]["picture"]["R@1"]["value"] <= 1
    assert document["found"]["picture"]["R@5"]["value"] == 1  # there are four
    assert document["reranked"]["candidates"] == 2
    assert set(document["words"]) == {"fits", "fills"}
    assert set(document["judged"]) == {"random", "near"}
    assert len(document["queries"]) == 12
    assert all(len(query["photos"]) == 4 for query in document["queries"])


def test_retrieval_keeps_what_is_a_bundles_own_in_its_metrics(folder: Path, measured: Path) -> None:
    document = json.loads(measured.with_suffix(".json").read_text(encoding="utf-8"))
    metrics = {
        name: load_matcher(folder / "weights", name).metrics for name in ("finds", "fits", "fills")
    }
    assert metrics["finds"]["found"] == document["found"]
    assert metrics["fits"]["judged"] == document["judged"]
    assert metrics["fills"]["words"] == document["words"]["fills"]


def test_retrieval_draws_a_row_of_photos_for_each_query(folder: Path, measured: Path) -> None:
    assert measured.exists()
    with Image.open(folder / "sheet.jpg") as sheet:
        assert sheet.height > 12 * 180
        assert sheet.width < 5 * 200


def test_retrieval_without_the_others_leaves_their_rows_out(folder: Path) -> None:
    result = CliRunner().invoke(
        app,
        [
            "retrieval",
            *("--experiment", str(folder / "finds.toml"), "--limit", "3"),
            *("--data-folder", str(folder), "--weights-folder", str(folder / "weights")),
            *("--finder", "finds"),
        ],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    assert "There is no bundle 'vilbert': its rows are left out." in result.output
    assert "## Found" in result.output
    assert "## Told apart" not in result.output


@pytest.mark.parametrize(
    ("finder", "error", "message"),
    [
        ("fills", ConfigError, "'fills' is no nce"),
        ("none", UnknownModelError, "There are: fills, finds, fits"),
    ],
)
def test_retrieval_by_what_finds_nothing_is_refused(
    folder: Path, finder: str, error: type[Exception], message: str
) -> None:
    places = ["--data-folder", str(folder), "--weights-folder", str(folder / "weights")]
    with pytest.raises(error, match=message):
        CliRunner().invoke(
            app,
            ["retrieval", "--experiment", str(folder / "finds.toml"), "--finder", finder, *places],
            catch_exceptions=False,
        )


def test_other_eyes_are_refused(folder: Path) -> None:
    bundle = load_matcher(folder / "weights", "finds")
    network = load_model(folder / "weights", "eyes").model
    check_eyes(bundle, network)
    with torch.no_grad():
        next(network.encoder.parameters()).add_(1.0)
    with pytest.raises(CheckpointError, match="learnt to see through other eyes"):
        check_eyes(bundle, network)
