"""A captioner with a tagger through the command line: trained, exported beside another that shares
its tagger, averaged with it, and both in memory at once."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from models.bundles.checkpoint import load_checkpoint, save_checkpoint
from models.bundles.registry import load_model
from models.bundles.shared_tensors import SharedTensors
from models.bundles.tensors import halve
from models.decoders.show_attend_tell import AttentionDecoder
from models.errors import ConfigError
from models.loading import build_captioner
from models.network import CaptioningModel, build_model
from models.preprocessing import DecodeLimits
from models.tagging.classes import class_word_ids
from tests.unit.seeing_toys import photo_file
from training.cli import app
from training.data.synthetic_shapes import write

_FIRST = """
name = "first"
shared = { tagger = "published" }
min_count = 1
captions_per_photo = 2
precision = "float32"

[architecture]
encoder = "tiny"
size_pixels = 224
encoder_pixels = 56
pretrained = false
tags = true
tagger = { max_objects = 4, min_score = 0.02, max_concepts = 3, min_probability = 0.001 }
embed_dim = 16
decoder_dim = 24
attention_dim = 8

[decoding]
beam_size = 2
max_length = 8

[[train]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "train.jsonl"
split = "all"

[[dev]]
name = "shapes-dev"
kind = "jsonl"
root = "shapes"
captions = "dev.jsonl"
split = "all"

[[stages]]
kind = "language"
epochs = 1
batch_size = 2
imagined_tags = true

[[stages]]
kind = "finetune"
epochs = 1
batch_size = 1
encoder_learning_rate = 1e-3
augment = false
ema_decay = 0.5
"""
_SECOND = """
like = "first.toml"
name = "second"
start_from = "first"
shared = { tagger = "published" }

[[stages]]
kind = "frozen"
epochs = 1
batch_size = 1
ema_decay = 0.0
hide_encoder = 0.5
"""


def run(folder: Path, command: str, name: str, *options: str) -> None:
    """A command of `glimpse-train`, its folders all below one."""
    places = ["--data-folder", str(folder), "--weights-folder", str(folder / "weights")]
    if command != "average":
        places += ["--runs-folder", str(folder / "runs")]
    if command == "train":
        places += ["--encoders-folder", str(folder / "encoders")]
    arguments = [command, str(folder / f"{name}.toml"), *options, *places]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_encoders: Path) -> Path:
    """Two experiments, trained and exported; the second goes on from the first."""
    folder = tmp_path_factory.mktemp("eyes")
    (folder / "encoders").symlink_to(shared_encoders)
    write(folder / "shapes", train_count=2, dev_count=1, seed=3, size_pixels=96)
    for name, text in (("first", _FIRST), ("second", _SECOND)):
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
        run(folder, "train", name)
        run(folder, "export", name)
    return folder


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, CaptioningModel]:
    """Both as they were exported, each with tensors of its own."""
    return {name: load_checkpoint(folder / "weights" / name).model for name in ("first", "second")}


def test_training_learns_all_but_the_tagger(
    models: dict[str, CaptioningModel], tagger_tensors: dict[str, Tensor]
) -> None:
    published = halve(tagger_tensors)
    for model in models.values():
        assert model.tagger is not None
        for name, tensor in model.tagger.state_dict().items():
            assert torch.equal(tensor, published[name].float()), name
    first, second = (model.state_dict() for model in models.values())
    moved = {name for name, tensor in first.items() if not torch.equal(tensor, second[name])}
    assert "decoder.lstm_tags.weight" in moved
    assert "decoder.tags.query.weight" in moved
    assert all(name.startswith("decoder.") for name in moved)  # the encoder stood still
    assert first["decoder.lstm_tags.weight"].any()  # it began as zeros


def test_trained_decoder_knows_the_words_of_tags(
    folder: Path, models: dict[str, CaptioningModel]
) -> None:
    vocabulary = load_checkpoint(folder / "weights" / "first").vocabulary
    for model in models.values():
        assert isinstance(model.decoder, AttentionDecoder)
        assert model.decoder.tags is not None
        expected = torch.tensor(class_word_ids(vocabulary))
        assert torch.equal(model.decoder.tags.class_words, expected)


def test_cache_holds_tags_beside_each_file_of_annotations(folder: Path) -> None:
    files = sorted(path.name for path in (folder / "runs" / "cache").iterdir())

    keys = {name.removeprefix("annotations-") for name in files if name.startswith("anno")}
    assert keys == {name.removeprefix("tags-") for name in files if name.startswith("tags")}
    assert len(files) == 2 * len(keys) == 4  # train and dev, of the frozen stage; and no scraps


def test_export_writes_the_tagger_once_and_both_bundles_name_it(folder: Path) -> None:
    weights = folder / "weights"
    assert [path.name for path in (weights / "shared").iterdir()] == ["published.safetensors"]
    shared = load_file(weights / "shared" / "published.safetensors")
    assert shared
    assert all(name.startswith("tagger.") for name in shared)
    for name in ("first", "second"):
        own = load_file(weights / name / "model.safetensors")
        assert not any(key.startswith("tagger.") for key in own)
        assert any(key.startswith("encoder.") for key in own)
        sums = (weights / name / "SHA256SUMS").read_text(encoding="utf-8")
        assert sums.count("../shared/published.safetensors") == 1


def test_bundles_in_one_memory_have_one_tagger_and_caption_as_alone(
    folder: Path, models: dict[str, CaptioningModel]
) -> None:
    store = SharedTensors()
    together = {name: load_model(folder / "weights", name, store) for name in models}
    captioner = build_captioner(together["second"], precision="float32")
    build_captioner(together["first"], precision="float32")

    first, second = (each.model.state_dict() for each in together.values())
    for name in first:
        is_one = first[name].data_ptr() == second[name].data_ptr()
        assert is_one == name.startswith("tagger."), name

    image = captioner.prepare(photo_file("coffee"), DecodeLimits())
    alone = load_model(folder / "weights", "second", None)
    expected = build_captioner(alone, precision="float32").encode([image])
    found = captioner.encode([image])
    assert found.tags is not None
    assert expected.tags is not None
    assert torch.equal(found.tags.classes, expected.tags.classes)
    torch.testing.assert_close(found.annotations, expected.annotations)


def test_average_of_bundles_with_one_tagger_has_it_too_and_shares_it(
    folder: Path, models: dict[str, CaptioningModel]
) -> None:
    (folder / "mean.toml").write_text(
        _FIRST.replace('name = "first"', 'name = "mean"'), encoding="utf-8"
    )

    run(folder, "average", "mean", "first", "second", "second")

    mean = load_checkpoint(folder / "weights" / "mean").model.state_dict()
    first, second = (model.state_dict() for model in models.values())
    for name, tensor in mean.items():
        if name.startswith("tagger.") or not tensor.is_floating_point():
            assert torch.equal(tensor, first[name]), name
            assert tensor.dtype == first[name].dtype
        else:
            expected = (first[name] + 2 * second[name]) / 3
            torch.testing.assert_close(tensor, expected, atol=1e-3, rtol=1e-3)
    own = load_file(folder / "weights" / "mean" / "model.safetensors")
    assert not any(name.startswith("tagger.") for name in own)


def test_average_with_a_captioner_that_has_no_tagger_is_refused(folder: Path) -> None:
    checkpoint = load_checkpoint(folder / "weights" / "first")
    config = checkpoint.config.model_copy(
        update={
            "name": "blind",
            "tagger": None,
            "decoder": checkpoint.config.decoder.model_copy(update={"tags": False}),
        }
    )
    save_checkpoint(
        folder / "weights" / "blind", build_model(config), config, checkpoint.vocabulary, {}
    )

    with pytest.raises(ConfigError, match="blind and first differ in architecture or words"):
        run(folder, "average", "first", "first", "blind")
