"""The block of every Transformer that encodes, of patches or of subwords. Knows neither.

Rows of any kind, L positions, E width; sections are those of Vaswani et al. 2017.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.multihead_attention import MultiHeadAttention

__all__ = ["EncoderBlock", "sinusoids"]

# The longest wave of the sinusoids, over 2 pi (section 3.5).
_LONGEST_WAVE = 10_000


class EncoderBlock(nn.Module):
    """Self-attention, then an MLP with GELU, each normalized before (pre-norm).

    Vaswani et al. 2017, section 3.1; Dosovitskiy et al. 2021, equations 2 and 3.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        feedforward_dim: int | None = None,
        dropout: float = 0.0,
        scales: bool = False,
        epsilon: float = 1e-5,
    ) -> None:
        """Build with random weights.

        feedforward_dim: units of the MLP; four times the width unless given.
        dropout: acts on what each part adds. scales: what it adds is weighed by feature.
        epsilon: of the layer norms.
        """
        super().__init__()
        inner = 4 * width if feedforward_dim is None else feedforward_dim
        self.attention_norm = nn.LayerNorm(width, epsilon)
        self.feedforward_norm = nn.LayerNorm(width, epsilon)
        self.attention = MultiHeadAttention(width, heads)
        self.expand = nn.Linear(width, inner)
        self.contract = nn.Linear(inner, width)
        self.attention_scale = _scale(width) if scales else None
        self.feedforward_scale = _scale(width) if scales else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (rows, L, E) to (rows, L, E); attend where mask (rows, 1, 1, L) is true."""
        return self.attend(x, mask)[0]

    def attend(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Do as `forward`, and give the weights as well: (rows, L, L), averaged over the heads."""
        x_norm = self.attention_norm(x)
        attended, weights = self.attention(x_norm, self.attention.project_keys(x_norm), mask)
        return self.add(x, attended), weights.mean(dim=1)

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add to x (rows, L, E) what it attended to, then what the MLP makes of both."""
        x = x + self.dropout(_scaled(attended, self.attention_scale))
        read = self.contract(F.gelu(self.expand(self.feedforward_norm(x))))
        return x + self.dropout(_scaled(read, self.feedforward_scale))  # type: ignore[no-any-return]


def sinusoids(first: int, count: int, width: int, device: torch.device) -> Tensor:
    """Compute the sinusoids of positions from `first` on: (count, width) (section 3.5).

    Sine and cosine come in turn.
    """
    position = torch.arange(first, first + count, device=device, dtype=torch.float32)
    rate = _LONGEST_WAVE ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.outer(position, rate)  # (count, width / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


def _scale(width: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(width))


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale
