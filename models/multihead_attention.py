"""Multi-head scaled dot-product attention, over words and over patches alike. Knows neither.

Rows of any kind, T positions that ask, S positions that are asked, E width, M heads.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["KeysValues", "MultiHeadAttention", "init_xavier_"]


class KeysValues(NamedTuple):
    """What queries attend to: keys and values (rows, M, S, E / M)."""

    keys: Tensor
    values: Tensor

    def select(self, indices: Tensor) -> "KeysValues":
        """Take rows `indices`."""
        return KeysValues(self.keys[indices], self.values[indices])

    def append(self, other: "KeysValues") -> "KeysValues":
        """Append the positions of `other`, in its type."""
        return KeysValues(
            torch.cat([self.keys.to(other.keys.dtype), other.keys], dim=2),
            torch.cat([self.values.to(other.values.dtype), other.values], dim=2),
        )


class MultiHeadAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, embed_dim: int, heads: int) -> None:
        """Build `heads` heads, which must divide the width `embed_dim`."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim, bias=False)  # a bias would cancel in the softmax
        self.value = nn.Linear(embed_dim, embed_dim)
        self.merge = nn.Linear(embed_dim, embed_dim)

    def project_keys(self, x: Tensor) -> KeysValues:
        """Project what can be attended to: (rows, S, E) to keys and values."""
        return KeysValues(self._split(self.key(x)), self._split(self.value(x)))

    def forward(
        self, x: Tensor, keys_values: KeysValues, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend from x (rows, T, E) where `mask` (T, S) is true, or everywhere.

        Gives the answers (rows, T, E) and the weights of each head (rows, M, T, S) float32.

        This is written out because the weights of the last layer are needed, and because on a CPU
        the gradient of the fused kernel takes several times as long.
        """
        keys, values = keys_values
        query = self._split(self.query(x))
        energy = (query @ keys.transpose(2, 3)).float() / math.sqrt(query.shape[-1])
        if mask is not None:
            energy = energy.masked_fill(~mask, -torch.inf)
        weights = energy.softmax(dim=-1)  # (rows, M, T, S)
        context = weights.to(values.dtype) @ values  # (rows, M, T, E / M)
        answers: Tensor = self.merge(context.transpose(1, 2).flatten(2))
        return answers, weights

    def _split(self, x: Tensor) -> Tensor:
        """Split the width into heads: (rows, S, E) to (rows, M, S, E / M)."""
        rows, positions, width = x.shape
        return x.view(rows, positions, self.heads, width // self.heads).transpose(1, 2)


def init_xavier_(module: nn.Module) -> None:
    """Initialize every linear layer of `module` in place (Glorot and Bengio 2010).

    The output keeps the scale of the input.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
