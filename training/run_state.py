"""What a run needs to go on after a kill: tensors in safetensors, numbers in JSON. Knows no data
and no pickle.

A state is a folder that appears by one rename, so that a kill while it is written leaves the one
before.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

__all__ = ["WeightAverage", "load_state", "optimizer_tensors", "restore_optimizer", "save_state"]


class WeightAverage:
    """Exponential moving average of a model's weights, in float32; with decay 0 the weights
    themselves.

    The decay grows from 0 as (1 + n) / (10 + n), so that the first steps do not linger.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the weights as they are."""
        self.decay = decay
        self.updates = 0
        self.tensors = {
            name: tensor.detach().clone().float() for name, tensor in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's weights by one step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.decay else 0.0
        for name, tensor in model.state_dict().items():
            self.tensors[name].lerp_(tensor.float(), 1 - decay)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimizer's state to named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value for index, each in state.items() for name, value in each.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, field = name.partition(".")
        state.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def save_state(
    folder: Path, tensors: dict[str, dict[str, Tensor]], numbers: dict[str, Any]
) -> None:
    """Write groups of tensors and the JSON-able `numbers` to `folder`, replacing it as a whole."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for group, named in tensors.items():
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()},
            fresh / f"{group}.safetensors",
        )
    (fresh / "state.json").write_text(json.dumps(numbers), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_state(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """Read what `save_state` wrote, or None where there is nothing; a half-replaced state is the
    one before."""
    for candidate in (folder, folder.with_name(folder.name + ".old")):
        if (candidate / "state.json").is_file():
            groups = {
                path.stem: load_file(path) for path in sorted(candidate.glob("*.safetensors"))
            }
            return groups, json.loads((candidate / "state.json").read_text(encoding="utf-8"))
    return None
