"""What training minimizes. Pure functions of tensors; knows no model.

R captions, T time, L locations, E embedding, V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "MovingBaseline",
    "attention_loss",
    "caption_loss",
    "distillation_loss",
    "doubly_stochastic_penalty",
    "reinforce_loss",
]

_LEAST_ALPHA = 1e-6


def caption_loss(logits: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
    """Sum of the words' cross-entropies: logits (M, V) against targets (M,), in nats."""
    return F.cross_entropy(
        logits.float(), targets, label_smoothing=label_smoothing, reduction="sum"
    )


def distillation_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of the cross-entropies of logits (M, V) to probabilities `targets` (M, V), in nats.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", equation 1 at temperature 1.
    """
    return -(targets * logits.float().log_softmax(dim=-1)).sum()


def doubly_stochastic_penalty(alphas: Tensor, mask: Tensor) -> Tensor:
    """Ask that every location be attended to once over a caption.

    Xu et al. 2015, second term of equation 14.

    alphas (R, T, L), mask (R, T) true where a word is. Gives the mean over captions and locations
    of (1 - sum_t alpha_ti)^2, a mean so that its weight alpha_c does not depend on the size of the
    grid.
    """
    seen = (alphas * mask.unsqueeze(-1)).sum(dim=1)  # (R, L)
    captions = mask.any(dim=1)
    return ((1 - seen) ** 2).mean(dim=1)[captions].mean()


def reinforce_loss(logprobs: Tensor, advantages: Tensor) -> Tensor:
    """Sum over sampled words of -advantage * log-probability.

    Williams 1992; Rennie et al. 2017, equation 7.

    logprobs (M,) of the words, advantages (M,) of the captions that they stand in, taken without
    gradient.
    """
    return -(logprobs * advantages.detach()).sum()


def attention_loss(alphas: Tensor, shares: Tensor) -> Tensor:
    """Sum over words of the cross-entropy of their maps to where the thing is, in nats.

    Liu et al. 2017, section 4.

    alphas (M, L) of words that name something; shares (M, L) in [0, 1], the part of each cell that
    lies in the thing's boxes, any of them above zero. The target is the shares divided by their
    sum.
    """
    targets = shares / shares.sum(dim=1, keepdim=True)
    return -(targets * alphas.clamp(min=_LEAST_ALPHA).log()).sum()


@dataclass(slots=True)
class MovingBaseline:
    """The moving average that REINFORCE compares a reward with (Xu et al. 2015, section 4.1).

    b_k = 0.9 b_{k-1} + 0.1 log p(y | s_k, a), the mean over the batch. It begins with the first
    batch's mean; that batch has none to be compared with, and its draws teach nothing.
    """

    value: float | None = None
    decay: float = 0.9

    def compare(self, rewards: Tensor) -> Tensor:
        """Give rewards (R,) less the baseline of the batches before, independent of them."""
        return (torch.zeros_like(rewards) if self.value is None else rewards - self.value).detach()

    def update(self, mean: float) -> None:
        """Move towards a batch's mean reward, after `compare`."""
        if self.value is None:
            self.value = mean
        else:
            self.value = self.decay * self.value + (1 - self.decay) * mean
