"""A moving average of a model's weights, which a stage validates and keeps.

Knows no data and no files.
"""

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Exponential moving average of a model's weights, in float32; with decay 0 their copy.

    The decay grows from 0 as (1 + n) / (10 + n), so that the first steps do not linger.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the weights as they are."""
        self.decay = decay
        self.updates = 0
        self.tensors: dict[str, Tensor] = {
            name: tensor.detach().clone().float() for name, tensor in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's weights by one step; frozen ones are their own average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.decay else 0.0
        frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
        weights = {
            name: tensor.float()
            for name, tensor in model.state_dict().items()
            if name not in frozen
        }
        averages = [self.tensors[name] for name in weights]
        torch._foreach_lerp_(averages, list(weights.values()), 1 - decay)  # all in one call

    def copy(self) -> dict[str, Tensor]:
        """Give a copy of the averaged weights, by name."""
        return {name: tensor.clone() for name, tensor in self.tensors.items()}
