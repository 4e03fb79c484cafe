"""A run's state on disk: tensors in safetensors, numbers in JSON, and what the run learns.

Knows no data and no pickle.

A state is a folder that appears by one rename, so that a kill during writing leaves the state
before.
"""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.config import ModelConfig
from models.errors import ConfigError
from models.tokenizer import Vocabulary

__all__ = [
    "StageProgress",
    "check_same",
    "check_same_run",
    "load_state",
    "optimizer_tensors",
    "progress_numbers",
    "read_progress",
    "restore_optimizer",
    "save_state",
]

ProgressT = TypeVar("ProgressT")

_RUN = "run.json"


@dataclass(slots=True)
class StageProgress:
    """Where a run of stages stands; all of it goes into the saved state.

    step: within the epoch. best: dev score of the best weights of this stage.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    bad_epochs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def progress_numbers(progress: Any) -> dict[str, Any]:
    """Give a dataclass's fields for JSON, which has no infinity: `best` is null before any."""
    return asdict(progress) | {"best": progress.best if math.isfinite(progress.best) else None}


def read_progress(kind: type[ProgressT], numbers: Mapping[str, Any]) -> ProgressT:
    """Give back the dataclass that `progress_numbers` wrote."""
    best = -math.inf if numbers["best"] is None else numbers["best"]
    return kind(**{**numbers, "best": best})


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimizer's state to named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value for index, each in state.items() for name, value in each.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, each tensor laid out in memory as its parameter is.

    A fused optimizer walks a parameter and its state side by side in memory: in another layout it
    would mix up their elements.
    """
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, field = name.partition(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
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
    """Read what `save_state` wrote; a half-replaced state is the one before. None without any."""
    for candidate in (folder, folder.with_name(folder.name + ".old")):
        if (candidate / "state.json").is_file():
            groups = {
                path.stem: load_file(path) for path in sorted(candidate.glob("*.safetensors"))
            }
            return groups, json.loads((candidate / "state.json").read_text(encoding="utf-8"))
    return None


def check_same_run(folder: Path, described: ModelConfig, vocabulary: Vocabulary) -> None:
    """Note the run's architecture and words in its folder, or hold both to what is noted there.

    Weights mean nothing for another vocabulary, even one of the same size. Raises ConfigError where
    they differ.
    """
    architecture = described.model_dump(
        mode="json", exclude={"name", "decoding", "dropout", "vocab_size", "calibration"}
    )
    check_same(folder, {"architecture": architecture, "words": list(vocabulary.words)})


def check_same(folder: Path, now: Mapping[str, Any]) -> None:
    """Note in the run's folder what may not change, JSON-able, or hold it to what is noted there.

    Raises ConfigError where something differs.
    """
    path = folder / _RUN
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(
            json.dumps(now, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        path.with_suffix(".new").rename(path)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [part for part, value in now.items() if before.get(part) != value]
    if changed:
        raise ConfigError(
            f"The run in {folder} was started with other {' and '.join(changed)} than the "
            "experiment and its data have now: put those back, or take another name for this "
            "experiment, or remove the folder."
        )
