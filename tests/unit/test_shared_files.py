"""Tensors that several bundles have in common, on disk: stored once, described unread, refused
where they differ."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.bundles.checkpoint import load_checkpoint, save_checkpoint
from models.bundles.reading import describe_checkpoint, update_metrics
from models.bundles.registry import list_models, load_model
from models.bundles.shared_tensors import SharedTensors
from models.bundles.tensors import save_shared
from models.errors import CheckpointError
from models.loading import describe_captioner, load_captioner
from models.tokenizer import Vocabulary
from tests.unit.shared_bundles import (
    WORD_TENSORS,
    caption_text,
    change_shared,
    is_encoder,
    save_sibling,
    save_siblings,
    sibling,
)
from tests.unit.toys import WORDS, save_tiny_bundle, tiny_config, tiny_model

REMEDY = r"Take the folder again .*export"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_siblings(tmp_path)


def reseal(bundle: Path, name: str) -> None:
    """Make the sum of one file right again."""
    lines = (bundle / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    digest = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    lines = [f"{digest}  {name}" if line.endswith(f"  {name}") else line for line in lines]
    (bundle / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="utf-8")


# -- stored ----


def test_save_checkpoint_shared_tensors_are_stored_once_and_come_back(weights: Path) -> None:
    stored = load_file(weights / "one" / "model.safetensors").keys()
    assert not any(is_encoder(name) or name in WORD_TENSORS for name in stored)

    loaded = load_checkpoint(weights / "one").model.state_dict()
    original = sibling("one").state_dict()

    assert loaded.keys() == original.keys()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, original[name].half().float())
        assert tensor.is_contiguous()  # nobody converted it: training may write it again


def test_load_checkpoint_captions_do_not_depend_on_sharing(
    weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = tmp_path_factory.mktemp("whole")
    save_sibling(whole, "one", shared=())

    captions = {
        caption_text(load_captioner(folder, "one", precision="float32"))
        for folder in (weights, whole)
    }

    assert len(captions) == 1


def test_save_checkpoint_shared_sums_are_as_sha256sum_reads_them(weights: Path) -> None:
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=weights / "one",
        capture_output=True,
        text=True,
    )

    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.split()[-4:] == [
        "../shared/encoder.safetensors:",
        "OK",
        "../shared/words.safetensors:",
        "OK",
    ]


def test_checkpoint_digest_is_of_all_weights_as_the_sums_name_them(weights: Path) -> None:
    bundle = weights / "one"
    lines = [
        line
        for line in (bundle / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        if "safetensors" in line
    ]
    assert len(lines) == 3
    digest = load_checkpoint(bundle).digest
    assert digest == hashlib.sha256(("\n".join(lines) + "\n").encode()).hexdigest()

    change_shared(weights, "words")
    reseal_shared = (weights / "shared" / "words.safetensors").read_bytes()
    text = (bundle / "SHA256SUMS").read_text(encoding="utf-8")
    old = next(line for line in lines if "words" in line).split()[0]
    (bundle / "SHA256SUMS").write_text(
        text.replace(old, hashlib.sha256(reseal_shared).hexdigest()), encoding="utf-8"
    )

    assert load_checkpoint(bundle).digest != digest


def test_update_metrics_keeps_the_shared_sums(weights: Path) -> None:
    digest = load_checkpoint(weights / "one").digest

    update_metrics(weights / "one", {"n": 2})

    loaded = load_checkpoint(weights / "one")
    assert (loaded.metrics, loaded.digest) == ({"n": 2}, digest)


def test_save_checkpoint_again_without_sharing_forgets_the_shared_files(weights: Path) -> None:
    save_sibling(weights, "one", shared=())
    for path in (weights / "shared").iterdir():
        path.unlink()

    digest = hashlib.sha256((weights / "one" / "model.safetensors").read_bytes()).hexdigest()
    assert load_checkpoint(weights / "one").digest == digest


def test_save_checkpoint_tensor_that_differs_is_refused_by_name_and_nothing_is_written(
    weights: Path,
) -> None:
    model = sibling("three")
    model.state_dict()["decoder.output.bias"][2] += 0.01

    with pytest.raises(
        CheckpointError, match=r"decoder\.output\.bias differs from the one in .*words\.safetensors"
    ):
        save_checkpoint(
            weights / "three", model, tiny_config("three"), Vocabulary(WORDS), {}, ("words",)
        )
    assert not (weights / "three").exists()


def test_save_checkpoint_zero_of_another_sign_is_the_same_number(weights: Path) -> None:
    """Averaging a weight with itself may drop the sign of a zero; that is no other model."""
    model = sibling("three")
    model.state_dict()["decoder.output.bias"].zero_()
    save_shared(weights, "zero", {"decoder.output.bias": torch.zeros(12)})
    save_shared(weights, "minus-zero", {"decoder.output.bias": -torch.zeros(12)})

    for name in ("zero", "minus-zero"):
        save_checkpoint(
            weights / "three", model, tiny_config("three"), Vocabulary(WORDS), {}, (name,)
        )
    save_shared(weights, "minus-zero", {"decoder.output.bias": torch.zeros(12)})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "cannot be read"),
        ("foreign", "holds no tensor of this model"),
        ("../one/model", "no name of a shared file"),
        ("", "no name of a shared file"),
    ],
)
def test_save_checkpoint_shared_file_of_no_use_is_refused(
    weights: Path, name: str, message: str
) -> None:
    save_shared(weights, "foreign", {"head.weight": torch.zeros(2)})

    with pytest.raises(CheckpointError, match=message):
        save_sibling(weights, "three", shared=(name,))
    assert not (weights / "three").exists()


def test_save_shared_same_again_is_nothing_new_and_a_different_one_is_refused(
    weights: Path,
) -> None:
    path = weights / "shared" / "words.safetensors"
    before = path.read_bytes()
    tensors = load_file(path)

    save_shared(weights, "words", {name: tensor.float() for name, tensor in tensors.items()})
    with pytest.raises(CheckpointError, match="bundles lean on it"):
        save_shared(weights, "words", {name: tensor + 1 for name, tensor in tensors.items()})

    assert path.read_bytes() == before


def test_save_shared_is_in_half_precision(weights: Path) -> None:
    assert {
        tensor.dtype for tensor in load_file(weights / "shared" / "encoder.safetensors").values()
    } == {torch.float16}


def test_list_models_shared_files_are_no_model(weights: Path) -> None:
    (weights / "shared" / "config.json").write_text("{}", encoding="utf-8")

    assert list_models(weights) == ["one", "two"]
    with pytest.raises(CheckpointError, match="call the model otherwise"):
        save_tiny_bundle(weights / "shared")


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _pointer(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (Path.unlink, r"needs .*words\.safetensors, which is missing"),
        (_damage, r"words\.safetensors does not match .*SHA256SUMS"),
        (lambda path: path.write_bytes(b""), r"words\.safetensors does not match .*SHA256SUMS"),
        (_pointer, "Git LFS pointer"),
    ],
)
def test_load_checkpoint_shared_file_missing_or_changed_is_refused(
    weights: Path, harm: Callable[[Path], object], message: str
) -> None:
    harm(weights / "shared" / "words.safetensors")

    for name in ("one", "two"):
        with pytest.raises(CheckpointError, match=rf"{message}.*{REMEDY}"):
            load_model(weights, name, SharedTensors())


@pytest.mark.parametrize(
    "name",
    [
        "../shared/../secret.safetensors",
        "../shared/../../secret.safetensors",
        "../secret.safetensors",
        "../shared/deeper/secret.safetensors",
        "../shared/..safetensors",
        "../shared/Secret.safetensors",
        "../shared/.hidden.safetensors",
        "/etc/hostname",
        "./model.safetensors",
        "../shared/words.safetensors/../secret.safetensors",
    ],
)
@pytest.mark.parametrize("reading", [load_checkpoint, describe_checkpoint])
def test_load_checkpoint_sums_that_lead_out_of_shared_are_refused(
    weights: Path, name: str, reading: Callable[[Path], object]
) -> None:
    with (weights / "one" / "SHA256SUMS").open("a", encoding="utf-8") as sums:
        sums.write(f"{'0' * 64}  {name}\n")

    with pytest.raises(
        CheckpointError, match=r"names .*which is no file of shared/|no name of a shared file"
    ):
        reading(weights / "one")


def test_load_checkpoint_tensor_in_two_places_is_refused(weights: Path) -> None:
    bundle = weights / "one"
    own = load_file(bundle / "model.safetensors")
    own["decoder.output.bias"] = torch.zeros(12, dtype=torch.float16)
    save_file(own, bundle / "model.safetensors")
    reseal(bundle, "model.safetensors")

    with pytest.raises(CheckpointError, match=r"decoder\.output\.bias is there twice"):
        load_checkpoint(bundle)


def test_load_checkpoint_bundle_behind_a_link_finds_its_shared_files(
    weights: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "one").symlink_to(weights / "one")

    assert load_model(elsewhere, "one").config.name == "one"


# -- described ----


@pytest.mark.parametrize("name", ["one", "plain"])
def test_describe_captioner_says_what_loading_gives(weights: Path, name: str) -> None:
    save_tiny_bundle(weights / "plain")

    assert describe_captioner(weights, name) == load_captioner(weights, name).info


def test_describe_captioner_counts_of_batch_normalization_are_not_float32(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "encoder": "torchvision/resnet18",
        "preprocess": {"size_pixels": 224, "mean": [0] * 3, "std": [1] * 3},
    }
    tensors = tiny_model(tiny_config(**fields)).state_dict()
    save_shared(
        tmp_path, "encoder", {name: tensor for name, tensor in tensors.items() if is_encoder(name)}
    )
    save_checkpoint(
        tmp_path / "tiny",
        tiny_model(tiny_config(**fields)),
        tiny_config(**fields),
        Vocabulary(WORDS),
        {},
        ["encoder"],
    )

    assert describe_captioner(tmp_path, "tiny") == load_captioner(tmp_path, "tiny").info


def test_describe_captioner_needs_no_weights_but_their_presence(weights: Path) -> None:
    bundle = weights / "one"
    expected = describe_captioner(weights, "one")
    _damage(bundle / "model.safetensors")
    assert describe_captioner(weights, "one") == expected

    (bundle / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model\.safetensors"):
        describe_captioner(weights, "one")


@pytest.mark.parametrize("harm", [Path.unlink, _pointer, lambda path: path.write_bytes(b"")])
def test_describe_captioner_shared_file_of_no_use_is_refused(
    weights: Path, harm: Callable[[Path], object]
) -> None:
    harm(weights / "shared" / "words.safetensors")

    with pytest.raises(CheckpointError, match=REMEDY):
        describe_captioner(weights, "one")


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "metrics.json", "SHA256SUMS"])
def test_describe_captioner_damaged_small_file_is_refused(weights: Path, name: str) -> None:
    (weights / "one" / name).write_bytes(b"")

    with pytest.raises(CheckpointError, match=REMEDY):
        describe_captioner(weights, "one")
