"""The tensors of bundles in torch: parsed in float32, stored in half precision. Knows no model."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from models.bundles.shared_tensors import REMEDY, check_finite, read_file, shared_path
from models.errors import CheckpointError

__all__ = ["channels_last", "halve", "is_same", "parse_tensors", "save_shared"]


def save_shared(weights_folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors`, under their full names, to the shared file `name` in half precision.

    Raises CheckpointError where a different file of that name exists: other bundles need it.
    """
    path = shared_path(weights_folder / "any", name)
    halves = halve(tensors)
    if path.exists():
        there = halve(parse_tensors(path, read_file(path)))
        if there.keys() != halves.keys() or not all(
            is_same(there[name], halves[name]) for name in halves
        ):
            raise CheckpointError(
                f"{path} is there and different, and bundles lean on it. Choose another name."
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(halves, metadata={"format": "pt"}))


def halve(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring tensors to their stored form: floats in float16, contiguous, on the CPU."""
    return {name: _stored(tensor) for name, tensor in tensors.items()}


def is_same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two stored tensors hold the same numbers.

    0.0 and -0.0 are the same: averaging weights drops the sign.
    """
    return one.dtype == other.dtype and torch.equal(one, other)


def parse_tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """Parse a safetensors file into tensors, floats in float32.

    Raises CheckpointError where it is none, or where a value is not finite.
    """
    try:
        stored = load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file. {REMEDY}") from error
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in stored.items()}
    for name, tensor in tensors.items():
        check_finite(path, name, is_finite=bool(tensor.isfinite().all()))
    return tensors


def channels_last(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Lay tensors of four dimensions out as a captioner computes.

    Converting shared ones later would give each model a copy.
    """
    return {
        name: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t
        for name, t in tensors.items()
    }


def _stored(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
