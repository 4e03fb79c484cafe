"""One or several training processes, as `torchrun` starts them. Knows no model and no data.

Every process holds the whole model; gradients and counts are summed over all of them after each
step.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from models.errors import ConfigError

__all__ = ["Processes"]

# a process may wait for others that fill the cache of annotations
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's rank among `world` ones, and its device."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> "Processes":
        """Join the group that torchrun's environment describes, or be alone.

        device: auto, cpu or cuda.

        Raises ConfigError where a GPU is asked for and none can be used.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "There is no GPU that this PyTorch can use; choose device cpu, or auto."
            )
        kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        world = int(os.environ.get("WORLD_SIZE", "1"))
        rank = int(os.environ.get("RANK", "0"))
        index = int(os.environ.get("LOCAL_RANK", "0")) if kind == "cuda" else None
        if index is not None:
            torch.cuda.set_device(index)
        if world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=_PATIENCE)
        return cls(
            rank, world, torch.device(kind, index) if index is not None else torch.device(kind)
        )

    @property
    def is_first(self) -> bool:
        """Tell whether this is the one process that writes files and reports."""
        return self.rank == 0

    def sum(self, value: float) -> float:
        """Sum a number over all processes."""
        if self.world == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return float(tensor.item())

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients in place over all processes, in one message."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def gather(self, part: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """Collect (index, text) pairs of all processes in each, by index; as JSON, no pickles."""
        parts = [part] if self.world == 1 else self._gather_json(part)
        return sorted((int(index), str(text)) for each in parts for index, text in each)

    def _gather_json(self, value: Any) -> list[Any]:
        """Send a JSON-able value to every process, padded to the longest; give all by rank."""
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(
            self.device
        )
        sizes = [torch.zeros(1, dtype=torch.long, device=self.device) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(data)], device=self.device))
        padded = data.new_zeros(max(int(size.item()) for size in sizes))
        padded[: len(data)] = data
        received = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(received, padded)
        return [
            json.loads(bytes(each[: int(size.item())].tolist()))
            for each, size in zip(received, sizes, strict=True)
        ]

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.world > 1:
            dist.barrier()

    def leave(self) -> None:
        """Leave the group, if there is one."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
