"""What training minimises. Pure functions of tensors; knows no model.

R captions, T time, L locations, E embedding, V vocabulary.
"""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["caption_loss", "doubly_stochastic_penalty", "reinforce_loss"]


def caption_loss(logits: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
    """Sum of the words' cross-entropies: logits (M, V) against targets (M,), in nats."""
    return F.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing, reduction="sum")


def doubly_stochastic_penalty(alphas: Tensor, mask: Tensor) -> Tensor:
    """Ask that every location be looked at once over a caption (Xu et al. 2015, second term of equation 14).

    alphas (R, T, L), mask (R, T) true where a word is. Gives the mean over captions and locations of
    (1 - sum_t alpha_ti)^2, a mean so that its weight alpha_c does not depend on the size of the grid.
    """
    seen = (alphas * mask.unsqueeze(-1)).sum(dim=1)  # (R, L)
    captions = mask.any(dim=1)
    return ((1 - seen) ** 2).mean(dim=1)[captions].mean()


def reinforce_loss(logprobs: Tensor, advantages: Tensor) -> Tensor:
    """Sum over sampled words of -advantage * log-probability (Williams 1992; Rennie et al. 2017, equation 7).

    logprobs (M,) of the words, advantages (M,) of the captions that they stand in, taken without gradient.
    """
    return -(logprobs * advantages.detach()).sum()
