"""Bundles on disk: what is saved comes back, and whatever is missing, damaged or mismatched is
refused by name."""

import hashlib
import json
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models.bundles.checkpoint import load_checkpoint, save_checkpoint
from models.bundles.reading import add_metrics, update_metrics
from models.bundles.registry import list_models, load_model
from models.errors import CheckpointError, UnknownModelError
from models.tokenizer import Vocabulary
from tests.unit.toys import WORDS, save_tiny_bundle, tiny_config, tiny_model

SUMMED = ("model.safetensors", "config.json", "vocab.json", "metrics.json")
FILES = (*SUMMED, "SHA256SUMS")
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"
REMEDY = r"Take the folder again .*export"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return save_tiny_bundle(tmp_path / "tiny")


def _reseal(folder: Path) -> None:
    """Make the sums right again: what is wrong now is not the bytes."""
    sums = (
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in SUMMED
    )
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def _change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    _reseal(path.parent)


def _change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    _reseal(folder)


def test_load_checkpoint_saved_bundle_comes_back_in_half_precision(bundle: Path) -> None:
    config = tiny_config()

    checkpoint = load_checkpoint(bundle)

    assert checkpoint.config == config
    assert checkpoint.vocabulary.words == WORDS
    assert checkpoint.metrics == {"cider_d": 0.5}
    assert (
        checkpoint.digest == hashlib.sha256((bundle / "model.safetensors").read_bytes()).hexdigest()
    )
    assert not checkpoint.model.training
    original = tiny_model(config).state_dict()
    assert original.keys() == checkpoint.model.state_dict().keys()
    for name, tensor in checkpoint.model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, original[name].half().float())
    assert not any(parameter.requires_grad for parameter in checkpoint.model.parameters())


def test_save_checkpoint_loaded_bundle_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(bundle)
    again = tmp_path / "again" / "tiny"

    save_checkpoint(again, loaded.model, loaded.config, loaded.vocabulary, loaded.metrics)

    assert {name: (again / name).read_bytes() for name in FILES} == {
        name: (bundle / name).read_bytes() for name in FILES
    }


def test_save_checkpoint_sums_are_as_sha256sum_reads_them(bundle: Path) -> None:
    checked = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True
    )

    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.split() == [part for name in SUMMED for part in (f"{name}:", "OK")]


def test_save_checkpoint_leaves_the_model_card(bundle: Path) -> None:
    (bundle / "MODEL_CARD.md").write_text("for people", encoding="utf-8")

    save_tiny_bundle(bundle)

    assert (bundle / "MODEL_CARD.md").read_text(encoding="utf-8") == "for people"


def test_save_checkpoint_counts_of_batch_normalization_survive(tmp_path: Path) -> None:
    config = tiny_config(
        encoder="torchvision/resnet18",
        preprocess={"size_pixels": 224, "mean": [0] * 3, "std": [1] * 3},
    )
    model = tiny_model(config)
    name = next(name for name in model.state_dict() if name.endswith("num_batches_tracked"))
    model.state_dict()[name].fill_(100_001)  # beyond float16

    save_checkpoint(tmp_path / "tiny", model, config, Vocabulary(WORDS), {})

    assert load_checkpoint(tmp_path / "tiny").model.state_dict()[name].item() == 100_001


def test_load_checkpoint_encoder_that_computes_its_widths_loads(tmp_path: Path) -> None:
    config = {
        "encoder": "torchvision/regnet_y_400mf",
        "preprocess": {"size_pixels": 224, "mean": [0] * 3, "std": [1] * 3},
    }

    checkpoint = load_checkpoint(save_tiny_bundle(tmp_path / "tiny", **config))

    assert all(not parameter.is_meta for parameter in checkpoint.model.parameters())


def test_update_metrics_bundle_stays_loadable(bundle: Path) -> None:
    update_metrics(bundle, {"bleu_4": 0.25, "photo": "café"})

    assert load_checkpoint(bundle).metrics == {"bleu_4": 0.25, "photo": "café"}


@pytest.mark.parametrize("name", FILES)
def test_load_checkpoint_missing_file_is_refused_by_name(bundle: Path, name: str) -> None:
    (bundle / name).unlink()

    with pytest.raises(CheckpointError, match=rf"lacks {name}\. {REMEDY}"):
        load_checkpoint(bundle)
    with pytest.raises(CheckpointError, match=rf"lacks {name}\."):
        load_model(bundle.parent, "tiny")


@pytest.mark.parametrize("name", FILES)
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_load_checkpoint_any_file_with_one_byte_changed_is_refused(
    bundle: Path, name: str, where: float, flip: int
) -> None:
    whole = (bundle / name).read_bytes()
    damaged = bytearray(whole)
    index = int(where * len(whole))
    if name == "SHA256SUMS":  # a blank that becomes another blank changes nothing
        index = int(where * 64)
    damaged[index] ^= flip
    (bundle / name).write_bytes(damaged)
    try:
        with pytest.raises(CheckpointError, match=rf"does not match SHA256SUMS.*{REMEDY}"):
            load_checkpoint(bundle)
    finally:
        (bundle / name).write_bytes(whole)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_load_checkpoint_truncated_file_is_refused(bundle: Path, name: str, share: float) -> None:
    whole = (bundle / name).read_bytes()
    (bundle / name).write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(CheckpointError, match=rf"does not match SHA256SUMS.*{REMEDY}"):
        load_checkpoint(bundle)


@pytest.mark.parametrize("name", FILES)
def test_load_checkpoint_git_lfs_pointer_is_named_as_one(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(LFS_POINTER)

    with pytest.raises(CheckpointError, match=rf"{name}.*Git LFS pointer: fetch the file itself"):
        load_checkpoint(bundle)


def test_load_checkpoint_folder_that_cannot_be_read_is_refused(bundle: Path) -> None:
    (bundle / "config.json").unlink()
    (bundle / "config.json").mkdir()

    with pytest.raises(CheckpointError, match=r"lacks config\.json"):
        load_checkpoint(bundle)


def test_load_checkpoint_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no model folder"):
        load_checkpoint(tmp_path / "nothing")


def test_load_checkpoint_renamed_folder_is_refused_with_the_right_name(bundle: Path) -> None:
    renamed = bundle.rename(bundle.with_name("other"))

    with pytest.raises(CheckpointError, match="holds a model called 'tiny'; name the folder tiny"):
        load_checkpoint(renamed)


def test_load_checkpoint_folder_given_relatively_loads(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle)

    assert load_checkpoint(Path()).config.name == "tiny"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda config: config.update(color="red"), "color.*Extra inputs", id="unknown-field"
        ),
        pytest.param(lambda config: config.pop("encoder"), "encoder.*required", id="missing-field"),
        pytest.param(
            lambda config: config["decoder"].update(dropout=1.5),
            "dropout.*less than 1",
            id="out-of-bounds",
        ),
        pytest.param(
            lambda config: config["decoding"].update(beam_size=0),
            r"decoding\.beam_size",
            id="nested",
        ),
        pytest.param(
            lambda config: config.update(encoder="vgg"),
            "No encoder is called 'vgg'",
            id="unknown-encoder",
        ),
        pytest.param(
            lambda config: config["preprocess"].update(size_pixels=90),
            "for 53 to 56 pixels",
            id="wrong-size",
        ),
        pytest.param(
            lambda config: config["decoder"].update(decoder_dim=13),
            "decoder.*does not fit",
            id="tensor-shapes",
        ),
        pytest.param(
            lambda config: config.update(vocab_size=13),
            "vocab.json has 12 .* says 13",
            id="vocabulary-size",
        ),
    ],
)
def test_load_checkpoint_config_that_does_not_fit_is_refused(
    bundle: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    _change_json(bundle / "config.json", change)

    with pytest.raises(CheckpointError, match=rf"{message}.*{REMEDY}"):
        load_checkpoint(bundle)


@pytest.mark.parametrize(
    "kind", ["attention", "nic", "lrcn-factored", "lrcn-unfactored", "transformer"]
)
def test_load_checkpoint_config_of_an_older_version_gives_the_same_model(
    tmp_path: Path, kind: str
) -> None:
    bundle = save_tiny_bundle(tmp_path / "tiny", decoder=kind, heads=2)
    expected = load_checkpoint(bundle)
    (bundle / "config.json").write_text(json.dumps(expected.config.describe()), encoding="utf-8")
    _reseal(bundle)

    found = load_checkpoint(bundle)

    assert found.config == expected.config
    assert found.model.state_dict().keys() == expected.model.state_dict().keys()


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "metrics.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"words"'])
def test_load_checkpoint_file_that_is_no_json_object_is_refused(
    bundle: Path, name: str, content: bytes
) -> None:
    (bundle / name).write_bytes(content)
    _reseal(bundle)

    with pytest.raises(CheckpointError, match=rf"{name}.*{REMEDY}"):
        load_checkpoint(bundle)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "dog"], "vocab.json has 6 tokens and config.json says 12"),
        ([*WORDS[:-1], "a"], "names a word twice"),
        ([*WORDS[:-1], 7], 'no list "words" of strings'),
        ("a dog", 'no list "words" of strings'),
    ],
)
def test_load_checkpoint_vocabulary_that_does_not_fit_is_refused(
    bundle: Path, words: object, message: str
) -> None:
    _change_json(bundle / "vocab.json", lambda value: value.update(words=words))

    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda tensors: tensors.pop("decoder.gate.bias"),
            "decoder.gate.bias does not fit",
            id="missing",
        ),
        pytest.param(
            lambda tensors: tensors.update(extra=torch.zeros(2)),
            "extra does not fit",
            id="one-too-many",
        ),
        pytest.param(
            lambda tensors: tensors.update({"decoder.gate.bias": torch.zeros(2)}),
            "decoder.gate.bias does not fit",
            id="misshapen",
        ),
        pytest.param(
            lambda tensors: tensors["decoder.gate.bias"].fill_(torch.nan),
            "decoder.gate.bias has values that are no numbers",
            id="nan",
        ),
        pytest.param(
            lambda tensors: tensors["decoder.output.weight"].view(-1)[3].fill_(torch.inf),
            "decoder.output.weight has values that are no numbers",
            id="infinite",
        ),
    ],
)
def test_load_checkpoint_tensor_that_does_not_fit_is_refused_by_name(
    bundle: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    _change_tensors(bundle, change)

    with pytest.raises(CheckpointError, match=rf"{message}.*{REMEDY}"):
        load_checkpoint(bundle)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", pickle.dumps({"decoder": 1})])
def test_load_checkpoint_weights_that_are_no_safetensors_are_refused(
    bundle: Path, content: bytes
) -> None:
    (bundle / "model.safetensors").write_bytes(content)
    _reseal(bundle)

    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_checkpoint(bundle)


def test_load_checkpoint_pickle_beside_the_bundle_is_never_opened(
    bundle: Path, tmp_path: Path
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    for name in ("pytorch_model.bin", "model.pt", "model.pkl"):
        (bundle / name).write_bytes(pickle.dumps(Trap()))

    assert load_checkpoint(bundle).config.name == "tiny"
    assert not (tmp_path / "sprung").exists()


def test_save_checkpoint_vocabulary_of_another_model_is_refused(tmp_path: Path) -> None:
    config = tiny_config()

    with pytest.raises(CheckpointError, match="vocabulary has 6 tokens and the model 12"):
        save_checkpoint(tmp_path / "tiny", tiny_model(config), config, Vocabulary(["a", "dog"]), {})
    assert not (tmp_path / "tiny").exists()


def test_list_models_names_bundles_alone_sorted(bundle: Path) -> None:
    for name in ("zebra", "a-model"):
        shutil.copytree(bundle, bundle.with_name(name))
    for name in (".hidden", "No Name", "empty"):
        bundle.with_name(name).mkdir()
    bundle.with_name("file").write_text("", encoding="utf-8")

    assert list_models(bundle.parent) == ["a-model", "tiny", "zebra"]
    assert list_models(bundle.parent / "nothing") == []


@pytest.mark.parametrize(
    "name", ["other", "", ".", "..", "../tiny", "tiny/", "TINY", "/", "tiny\n", "x" * 5000, "a\0b"]
)
def test_load_model_unknown_name_is_refused_with_the_known_ones(bundle: Path, name: str) -> None:
    with pytest.raises(UnknownModelError, match="There are: tiny"):
        load_model(bundle.parent, name)


def test_load_model_empty_folder_says_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="There is none in"):
        load_model(tmp_path, "tiny")


def test_load_model_known_name_loads(bundle: Path) -> None:
    assert load_model(bundle.parent, "tiny").config.name == "tiny"


def test_add_metrics_keeps_what_is_there_and_replaces_the_same_key(tmp_path: Path) -> None:
    bundle = save_tiny_bundle(tmp_path / "tiny")
    add_metrics(bundle, {"maps": {"mass": 0.5}})
    add_metrics(bundle, {"maps": {"mass": 0.6}})
    assert load_checkpoint(bundle).metrics == {"cider_d": 0.5, "maps": {"mass": 0.6}}
