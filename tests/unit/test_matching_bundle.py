"""Bundles of matching models on disk: written, verified, refused, and apart from captioners'."""

import json
from pathlib import Path

import pytest
import torch

from models.bundles.checkpoint import save_checkpoint
from models.bundles.files import write_sums
from models.bundles.reading import add_metrics
from models.bundles.registry import list_models
from models.errors import CheckpointError, UnknownModelError
from models.matching.bundle import list_matchers, load_matcher, matching_folder, save_matcher
from models.matching.config import MatcherConfig, MatchingConfig
from models.tokenizer import Vocabulary
from tests.unit.matching_toys import FEATURES, NCE, VILBERT, VL_BERT, WORDS, matcher
from tests.unit.toys import WORDS as KNOWN
from tests.unit.toys import tiny_config, tiny_model

VOCABULARY = Vocabulary([f"w{number}" for number in range(WORDS - 4)])


def described(config: MatcherConfig, name: str = "toy") -> MatchingConfig:
    return MatchingConfig(
        name=name,
        eyes="eyes",
        eyes_digest="0" * 64,
        feature_dim=FEATURES,
        vocab_size=WORDS,
        matcher=config,
    )


def saved(folder: Path, config: MatcherConfig = NCE) -> Path:
    return save_matcher(folder, matcher(config), described(config), VOCABULARY, {"photos": 3})


@pytest.mark.parametrize("config", [NCE, VILBERT, VL_BERT], ids=["nce", "vilbert", "vl-bert"])
def test_bundle_round_trip_keeps_everything(tmp_path: Path, config: MatcherConfig) -> None:
    saved(tmp_path, config)
    bundle = load_matcher(tmp_path, "toy")
    assert bundle.config == described(config)
    assert bundle.vocabulary.words == VOCABULARY.words
    assert bundle.metrics == {"photos": 3}
    expected = matcher(config).state_dict()
    for name, tensor in bundle.model.state_dict().items():
        kept = expected[name].half().float() if tensor.is_floating_point() else expected[name]
        assert torch.equal(tensor, kept), name
    assert not any(each.requires_grad for each in bundle.model.parameters())


def test_bundle_is_no_captioner(tmp_path: Path) -> None:
    saved(tmp_path)
    assert list_models(tmp_path) == []
    assert list_matchers(tmp_path) == ["toy"]
    assert list_matchers(tmp_path / "elsewhere") == []


def test_captioner_may_not_take_the_folders_name(tmp_path: Path) -> None:
    config = tiny_config("matching")
    with pytest.raises(CheckpointError, match="a folder of other files than models"):
        save_checkpoint(tmp_path / "matching", tiny_model(config), config, Vocabulary(KNOWN), {})
    (tmp_path / "matching").mkdir()
    (tmp_path / "matching" / "config.json").write_text("{}", encoding="utf-8")
    assert list_models(tmp_path) == []


def test_metrics_are_added_and_the_bundle_still_verifies(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    add_metrics(folder, {"found": 1})
    assert load_matcher(tmp_path, "toy").metrics == {"photos": 3, "found": 1}


def test_vocabulary_of_another_size_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has 5 tokens and the model 20"):
        save_matcher(tmp_path, matcher(NCE), described(NCE), Vocabulary(["one"]), {})


@pytest.mark.parametrize("name", ["none", "../toy", ""])
def test_unknown_name_is_refused(tmp_path: Path, name: str) -> None:
    saved(tmp_path)
    with pytest.raises(UnknownModelError, match=r"There are: toy\."):
        load_matcher(tmp_path, name)


def test_empty_folder_has_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="There is none in"):
        load_matcher(tmp_path, "toy")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "other", "holds a model called 'other'"),
        ("vocab_size", 21, "vocab.json has 20 tokens and config.json says 21"),
        ("feature_dim", 7, "does not fit config.json's architecture"),
        ("eyes_digest", "short", "eyes_digest: String should match pattern"),
        ("matcher", {"kind": "clip"}, "matcher: Input tag 'clip'"),
        ("matcher", {"kind": "nce", "heads": 3}, "multiple of its 3 heads"),
    ],
)
def test_bundle_that_contradicts_itself_is_refused(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    folder = saved(tmp_path)
    document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    document[field] = value
    (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")
    write_sums(folder, {})
    with pytest.raises(CheckpointError, match=message):
        load_matcher(tmp_path, "toy")


def test_vocabulary_that_is_no_list_of_words_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (folder / "vocab.json").write_text('{"words": [1]}', encoding="utf-8")
    write_sums(folder, {})
    with pytest.raises(CheckpointError, match='no list "words" of strings'):
        load_matcher(tmp_path, "toy")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = matching_folder(tmp_path, "toy")
    saved(tmp_path)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="does not match SHA256SUMS"):
        load_matcher(tmp_path, "toy")
