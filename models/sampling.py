"""Captions drawn by their probabilities, for training by rewards. In torch: the search is NumPy's.

Knows no network. Letters in shapes: see `models`.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from models.decoders.base import StepOutput
from models.decoding import SpecialIds
from models.features import ImageFeatures, Tags

__all__ = ["TensorDecoder", "sample", "suppress_tokens"]


class TensorDecoder(Protocol):
    """A decoder in torch, as `models.decoders` has them."""

    def init_state(self, annotations: Tensor, tags: Tags | None, /) -> Any:
        """Give a state of B rows, from annotations (B, L, D) and the same images' tags."""

    def step(self, token_ids: Tensor, state: Any, /) -> StepOutput[Any]:
        """Read the last words (R,), and score the next ones."""


@torch.no_grad()
def sample(
    decoder: TensorDecoder,
    features: ImageFeatures,
    *,
    count: int,
    max_length: int,
    generator: torch.Generator | None = None,
    special: SpecialIds = SpecialIds(),
) -> Tensor:
    """Draw `count` captions of each image, by the model's probabilities.

    Gives ids (B * count, T), rows grouped by image, T at most max_length + 1. Pad follows eos,
    which a caption of `max_length` words may lack.
    """
    rows = torch.arange(len(features), device=features.device).repeat_interleave(count)
    state = decoder.init_state(features.annotations, features.tags).select(rows)
    words = torch.full_like(rows, special.bos)
    open_rows = torch.ones_like(rows, dtype=torch.bool)
    drawn: list[Tensor] = []
    while len(drawn) <= max_length and bool(open_rows.any()):
        output = decoder.step(words, state)
        state = output.state
        logits = suppress_tokens(output.logits.float(), special, first=not drawn)
        probabilities = logits.softmax(dim=-1)
        words = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
        words = torch.where(open_rows, words, special.pad)
        open_rows = open_rows & (words != special.eos)
        drawn.append(words)
    return torch.stack(drawn, dim=1)


def suppress_tokens(logits: Tensor, special: SpecialIds, *, first: bool) -> Tensor:
    """Set logits (..., V) to -inf for pad, bos and unk, and at the first word also for eos.

    A caption is never empty.
    """
    suppressed = torch.tensor(special.suppressed(first=first), device=logits.device)
    return logits.index_fill(-1, suppressed, -torch.inf)
