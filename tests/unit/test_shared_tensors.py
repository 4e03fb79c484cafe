"""Tensors that several bundles have in common, in memory: there once, and for as long as a model
uses them."""

import gc
from pathlib import Path

import pytest
import torch

from models.bundles.checkpoint import load_checkpoint
from models.bundles.registry import load_model
from models.bundles.shared_tensors import SharedTensors
from models.errors import CheckpointError
from models.loading import build_captioner, load_captioner
from models.memory import MemoryUse, total_bytes
from tests.unit.shared_bundles import (
    WORD_TENSORS,
    caption_text,
    change_shared,
    is_encoder,
    save_siblings,
    sibling,
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_siblings(tmp_path)


def test_load_captioner_two_share_every_tensor_of_the_shared_files(weights: Path) -> None:
    store = SharedTensors()

    one, two = (load_model(weights, name, store) for name in ("one", "two"))
    for each in (one, two):
        build_captioner(each)  # lays its convolutions out

    ours = one.model.state_dict()
    theirs = two.model.state_dict()
    shared = {name for name in ours if is_encoder(name) or name in WORD_TENSORS}
    assert any(ours[name].dim() == 4 for name in shared)
    for name in ours:
        assert (ours[name].data_ptr() == theirs[name].data_ptr()) == (name in shared), name
        if ours[name].dim() == 4:
            assert ours[name].is_contiguous(memory_format=torch.channels_last)


def test_load_captioner_shared_or_not_captions_alike(weights: Path) -> None:
    store = SharedTensors()
    together = [
        load_captioner(weights, name, precision="float32", store=store) for name in ("one", "two")
    ]
    alone = [load_captioner(weights, name, precision="float32") for name in ("one", "two")]

    assert [caption_text(each) for each in together] == [caption_text(each) for each in alone]


def test_shared_tensors_last_captioner_gone_frees_the_file(weights: Path) -> None:
    store = SharedTensors()
    one, two = (load_captioner(weights, name, store=store) for name in ("one", "two"))
    assert len(store.digests()) == 2

    del one
    gc.collect()
    assert len(store.digests()) == 2
    assert caption_text(two)
    del two
    gc.collect()
    assert not store.digests()


def test_shared_tensors_file_in_memory_is_not_read_again(weights: Path) -> None:
    store = SharedTensors()
    one = load_captioner(weights, "one", store=store)
    for path in (weights / "shared").iterdir():
        path.unlink()

    two = load_captioner(weights, "two", store=store)

    assert two.info.memory.shared_bytes == one.info.memory.shared_bytes


def test_shared_tensors_changed_file_is_another_one(weights: Path) -> None:
    store = SharedTensors()
    kept = load_captioner(weights, "one", store=store)
    change_shared(weights, "words")

    with pytest.raises(CheckpointError, match="does not match"):
        load_captioner(weights, "two", store=SharedTensors())
    assert kept.info.memory.shared_bytes.keys() == store.digests()


def test_memory_use_counts_shared_files_once(weights: Path) -> None:
    store = SharedTensors()
    one, two = (load_model(weights, name, store) for name in ("one", "two"))

    uses = [build_captioner(each).info.memory for each in (one, two)]
    tensors = [t for each in (one, two) for t in each.model.state_dict().values()]

    assert total_bytes(uses) == sum(
        {tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values()
    )
    assert total_bytes(uses[:1]) == sum(tensor.nbytes for tensor in one.model.state_dict().values())
    assert total_bytes([]) == 0


def test_memory_use_of_a_model_that_is_its_own_alone_has_nothing_shared(weights: Path) -> None:
    memory = load_checkpoint(weights / "one").memory

    assert memory == MemoryUse(sum(t.nbytes for t in sibling("one").state_dict().values()), {})
