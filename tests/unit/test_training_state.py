"""A run's state: what is put down is what is taken up, whenever the kill comes, and without
pickle."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from training.ema import WeightAverage
from training.run_state import (
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def state_of(number: int) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    return {
        "model": {"w": torch.full((2, 3), float(number))},
        "best": {"w": torch.tensor(number)},
    }, {"step": number}


def assert_holds(folder: Path, number: int) -> None:
    found = load_state(folder)
    assert found is not None
    tensors, numbers = found
    assert numbers == {"step": number}
    for group, named in state_of(number)[0].items():
        assert torch.equal(tensors[group]["w"], named["w"])


def test_load_state_gives_what_save_state_took(tmp_path: Path) -> None:
    tensors = {
        "model": {
            "a": torch.randn(3, 4),
            "counter": torch.tensor(7),
            "half": torch.randn(5).bfloat16(),
        },
        "optimizer": {"0.step": torch.tensor(3.0), "0.exp_avg": torch.randn(4, 3).t()},
    }
    numbers = {"stage": 1, "best": None, "history": [{"epoch": 0, "dev": 0.1234567890123}]}
    save_state(tmp_path / "runs" / "state", tensors, numbers)
    found = load_state(tmp_path / "runs" / "state")
    assert found is not None
    assert found[1] == numbers
    assert found[0].keys() == tensors.keys()
    for group, named in tensors.items():
        assert found[0][group].keys() == named.keys()
        for name, tensor in named.items():
            assert found[0][group][name].dtype == tensor.dtype
            assert torch.equal(found[0][group][name], tensor)


def test_load_state_where_there_is_none_gives_none(tmp_path: Path) -> None:
    assert load_state(tmp_path / "state") is None
    (tmp_path / "state").mkdir()
    assert load_state(tmp_path / "state") is None


def test_save_state_replaces_the_whole_state_before(tmp_path: Path) -> None:
    save_state(
        tmp_path / "state",
        {**state_of(1)[0], "optimizer": {"0.step": torch.tensor(1.0)}},
        {"step": 1},
    )
    save_state(tmp_path / "state", *state_of(2))
    assert_holds(tmp_path / "state", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]
    assert "optimizer" not in (load_state(tmp_path / "state") or ({}, {}))[0]


def test_save_state_files_are_json_and_safetensors_alone(tmp_path: Path) -> None:
    save_state(tmp_path / "state", *state_of(1))
    for path in (tmp_path / "state").iterdir():
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        else:
            assert path.suffix == ".safetensors"
            with safe_open(path, "pt") as file:
                assert list(file.keys()) == ["w"]


class Killed(BaseException):
    """Not an Exception, as a kill is none: nothing in between may catch it."""


@contextmanager
def killed_at(operation: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop before the n-th step that changes the disk: a rename, a removal, a new folder, or a file
    of numbers."""
    done = 0

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def guard(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if done == operation:
                raise Killed
            done += 1
            return real(*args, **kwargs)

        return guard

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", guarded(shutil.rmtree))
        for name in ("rename", "mkdir", "write_text"):
            patch.setattr(Path, name, guarded(getattr(Path, name)))
        patch.setattr("training.run_state.save_file", guarded(save_state.__globals__["save_file"]))
        yield


def kill_while_saving(
    folder: Path, operation: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Save state `number`, killed before the n-th operation; tell whether the kill came in time."""
    with killed_at(operation, monkeypatch):
        try:
            save_state(folder, *state_of(number))
        except Killed:
            return True
    return False


def test_load_state_after_a_kill_at_any_moment_finds_a_whole_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    operation = 0
    while True:
        folder = tmp_path / str(operation) / "state"
        save_state(folder, *state_of(1))
        if not kill_while_saving(folder, operation, 2, monkeypatch):
            break
        found = load_state(folder)
        assert found is not None
        held.append(found[1]["step"])
        assert_holds(folder, held[-1])
        save_state(folder, *state_of(3))  # and the next run saves as if nothing had been
        assert_holds(folder, 3)
        operation += 1
    assert operation >= 8
    assert held == sorted(held)  # the one before, and from the last rename on the new one
    assert set(held) == {1, 2}


def test_load_state_after_two_kills_in_a_row_finds_a_whole_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in range(10):
        for second in range(10):
            folder = tmp_path / f"{first}-{second}" / "state"
            save_state(folder, *state_of(1))
            kill_while_saving(folder, first, 2, monkeypatch)
            kill_while_saving(folder, second, 3, monkeypatch)
            found = load_state(folder)
            assert found is not None
            assert_holds(folder, found[1]["step"])


def test_load_state_between_the_renames_is_the_state_before(tmp_path: Path) -> None:
    save_state(tmp_path / "state", *state_of(1))
    (tmp_path / "state").rename(tmp_path / "state.old")
    save_state(tmp_path / "other", *state_of(2))
    (tmp_path / "other").rename(tmp_path / "state.new")
    assert_holds(tmp_path / "state", 1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    torch.manual_seed(number)
    loss = model(torch.randn(4, 3, 4, 4)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def optimizer_of(model: nn.Module, *, fused: bool = False) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1, "lr": 1e-2},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0, "lr": 2e-2},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=fused)


@pytest.mark.parametrize("fused", [False, True])
def test_restore_optimizer_from_disk_takes_the_same_next_steps(tmp_path: Path, fused: bool) -> None:
    model = network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = optimizer_of(model, fused=fused)
    for number in range(3):
        step(model, optimizer, number)
    save_state(
        tmp_path / "state",
        {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer)},
        {"step": 3},
    )

    resumed = network(seed=5).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = load_state(tmp_path / "state")
    assert found is not None
    resumed.load_state_dict(found[0]["model"])
    fresh = optimizer_of(resumed, fused=fused)
    forgetful = copy.deepcopy(resumed)
    restore_optimizer(fresh, found[0]["optimizer"])
    for number in range(3, 6):
        step(model, optimizer, number)
        step(resumed, fresh, number)
        step(forgetful, optimizer_of(forgetful, fused=fused), number)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])
    assert not torch.equal(model.get_parameter("0.weight"), forgetful.get_parameter("0.weight"))


def test_restore_optimizer_of_a_fresh_one_changes_nothing() -> None:
    """Before the first step there is no state to keep."""
    model = network()
    optimizer = optimizer_of(model)
    assert optimizer_tensors(optimizer) == {}
    restore_optimizer(optimizer, {})
    step(model, optimizer, 0)


def test_weight_average_without_decay_is_the_weights_themselves() -> None:
    model = network()
    average = WeightAverage(model, 0.0)
    optimizer = optimizer_of(model)
    for number in range(3):
        step(model, optimizer, number)
        average.update(model)
        for name, tensor in model.state_dict().items():
            assert torch.equal(average.tensors[name], tensor.float())


def test_weight_average_equals_the_plain_formula() -> None:
    model = network()
    average = WeightAverage(model, 0.5)
    optimizer = optimizer_of(model)
    name = "3.weight"
    expected = model.get_parameter(name).detach().clone()
    for number in range(1, 20):
        step(model, optimizer, number)
        average.update(model)
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * model.get_parameter(name).detach()
        torch.testing.assert_close(average.tensors[name], expected)


def test_weight_average_can_be_loaded_into_the_model_and_keeps_its_own_copy() -> None:
    model = network()
    average = WeightAverage(model, 0.9)
    before = {name: tensor.clone() for name, tensor in average.tensors.items()}
    step(model, optimizer_of(model), 0)
    assert all(torch.equal(average.tensors[name], tensor) for name, tensor in before.items())
    model.load_state_dict(average.tensors)
    assert torch.equal(model.get_parameter("0.weight"), before["0.weight"])
