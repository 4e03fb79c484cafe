"""Scaled dot-product attention with several heads, for words and for patches alike. Knows neither.

Rows of any kind, T places that ask, S places that are asked, E width, M heads.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["KeysValues", "MultiHeadAttention", "init_xavier_"]


class KeysValues(NamedTuple):
    """What queries are answered from: keys and values (rows, M, places, E / M)."""

    keys: Tensor
    values: Tensor

    def select(self, indices: Tensor) -> "KeysValues":
        """Take rows `indices`."""
        return KeysValues(self.keys[indices], self.values[indices])

    def append(self, other: "KeysValues") -> "KeysValues":
        """Set another's places behind these."""
        return KeysValues(
            *(torch.cat([a.to(b.dtype), b], dim=2) for a, b in zip(self, other, strict=True))
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
        """Project what can be attended to, (rows, places, E)."""
        return KeysValues(self._split(self.key(x)), self._split(self.value(x)))

    def forward(
        self, x: Tensor, known: KeysValues, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Answer x (rows, T, E) from what is `known` of as many rows, where `mask` (T, S) is true.

        Gives the answers and each head's weights (rows, M, T, S), float32. Written out: on a
        processor the fused kernel's gradient takes several times as long, and the last layer's
        weights are wanted.
        """
        query = self._split(self.query(x))
        energy = (query @ known.keys.transpose(2, 3)).float() / math.sqrt(
            query.shape[-1]
        )  # (rows, M, T, S)
        if mask is not None:
            energy = energy.masked_fill(~mask, -torch.inf)
        weights = energy.softmax(dim=-1)
        context = weights.to(known.values.dtype) @ known.values  # (rows, M, T, E / M)
        answers: Tensor = self.merge(context.transpose(1, 2).flatten(2))
        return answers, weights

    def _split(self, x: Tensor) -> Tensor:
        """(rows, places, E) to (rows, M, places, E / M)."""
        rows, places, width = x.shape
        return x.view(rows, places, self.heads, width // self.heads).transpose(1, 2)


def init_xavier_(module: nn.Module) -> None:
    """Start every linear layer of `module` so that it keeps the scale of what passes (Glorot and
    Bengio 2010)."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
