"""Where to look: from the annotations and the hidden state to a context and the map alpha. Knows no words.

B pictures, G rows per picture (captions in training, beams in decoding), L locations, D encoder features,
A attention, N hidden.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["AdditiveAttention", "AttentionMemory"]


class AttentionMemory(NamedTuple):
    """What attention needs of a picture, computed once: annotations (B, L, D) and their keys (B, L, A)."""

    annotations: Tensor
    keys: Tensor


class AdditiveAttention(nn.Module):
    """Deterministic soft attention (Xu et al. 2015, equations 4, 5 and 13).

    e_i = w . tanh(W_a a_i + W_h h),  alpha = softmax(e),  context = sum_i alpha_i a_i
    """

    def __init__(self, encoder_dim: int, decoder_dim: int, attention_dim: int) -> None:
        """Build f_att with `attention_dim` hidden units."""
        super().__init__()
        self.key = nn.Linear(encoder_dim, attention_dim)
        self.query = nn.Linear(decoder_dim, attention_dim, bias=False)
        self.score = nn.Linear(attention_dim, 1, bias=False)  # a bias would cancel in the softmax

    def remember(self, annotations: Tensor) -> AttentionMemory:
        """Project annotations (B, L, D) once, for all the steps to come."""
        return AttentionMemory(annotations, self.key(annotations))

    def forward(self, memory: AttentionMemory, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Attend for hidden (R, N), R = B * G rows grouped by picture; give context (R, D) and alpha (R, L)."""
        annotations, keys = memory
        pictures, locations, _ = annotations.shape
        query = self.query(hidden).view(pictures, -1, 1, keys.shape[-1])  # (B, G, 1, A)
        energy = self.score(torch.tanh(keys.unsqueeze(1) + query)).squeeze(-1)  # (B, G, L), equation 4
        alpha = energy.float().softmax(dim=-1)  # (B, G, L), equation 5
        context = torch.bmm(alpha.to(annotations.dtype), annotations)  # (B, G, D), equation 13
        return context.flatten(0, 1), alpha.view(-1, locations)
