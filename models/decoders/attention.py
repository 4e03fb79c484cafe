"""Attention over locations: from annotations and a hidden state to a context and a map alpha.

Knows no words.

Letters in shapes: see `models`.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.decoders.config import AttentionKind

__all__ = [
    "AdditiveAttention",
    "Attention",
    "AttentionKeys",
    "AttentionOutput",
    "CosineAttention",
    "DotProductAttention",
    "HardAttention",
    "build_attention",
]

# How often hard attention takes the expectation in training (Xu et al. 2015, section 4.1).
_EXPECTED_PROBABILITY = 0.5
# Of cosine attention: similarities lie in [-1, 1], too close together for a softmax.
_INITIAL_TEMPERATURE = 0.1


class AttentionKeys(NamedTuple):
    """The projections of an image, computed once for all steps.

    annotations: (B, L, D), what contexts are the mean of.
    keys: (B, L, A).
    expected: (B, 1, 1) bool, of hard attention in training: true where the contexts of an image are
        expectations.
    mask: (B, L) bool, true where there is something to attend to; None where there is everywhere.
    """

    annotations: Tensor
    keys: Tensor
    expected: Tensor | None = None
    mask: Tensor | None = None

    def select(self, images: Tensor) -> "AttentionKeys":
        """Take some images."""
        expected = None if self.expected is None else self.expected[images]
        mask = None if self.mask is None else self.mask[images]
        return AttentionKeys(self.annotations[images], self.keys[images], expected, mask)


class AttentionOutput(NamedTuple):
    """The result of one step: context (R, D), and the map alpha (R, L) that it was computed with.

    Where a location was drawn, also its log-probability (R,) and the entropy (R,) of the
    distribution it was drawn from, in nats, as REINFORCE needs them.
    """

    context: Tensor
    alpha: Tensor
    logprob: Tensor | None = None
    entropy: Tensor | None = None


class Attention(nn.Module):
    """Base class of all kinds of attention: keys, a distribution over locations, its mean."""

    key: nn.Linear
    query: nn.Linear

    def project_keys(self, annotations: Tensor) -> AttentionKeys:
        """Project annotations (B, L, D) once, for all steps."""
        return AttentionKeys(annotations, self.key(annotations))

    def forward(self, keys: AttentionKeys, hidden: Tensor) -> AttentionOutput:
        """Attend with hidden (R, N)."""
        energy = self._energies(keys, hidden)  # (B, G, L)
        alpha = energy.softmax(dim=-1)
        return AttentionOutput(_mean(alpha, keys), alpha.flatten(0, 1))

    def energy(self, keys: Tensor, query: Tensor) -> Tensor:
        """Score every location: keys (B, L, A) and query (B, G, A) to (B, G, L)."""
        raise NotImplementedError

    def _energies(self, keys: AttentionKeys, hidden: Tensor) -> Tensor:
        """Score every location for hidden (R, N): (B, G, L), -inf where the mask is false."""
        energy = self.energy(keys.keys, self._query(keys, hidden)).float()
        if keys.mask is None:
            return energy
        return energy.masked_fill(~keys.mask.unsqueeze(1), -torch.inf)

    def _query(self, keys: AttentionKeys, hidden: Tensor) -> Tensor:
        """Project hidden (R, N) to a query (B, G, A)."""
        query: Tensor = self.query(hidden)
        return query.view(len(keys.annotations), -1, query.shape[-1])


class AdditiveAttention(Attention):
    """Deterministic soft attention (Xu et al. 2015, equations 4, 5 and 13).

    e_i = w . tanh(W_a a_i + W_h h),  alpha = softmax(e),  context = sum_i alpha_i a_i
    """

    def __init__(self, encoder_dim: int, decoder_dim: int, attention_dim: int) -> None:
        """Build f_att with `attention_dim` hidden units."""
        super().__init__()
        self.key = nn.Linear(encoder_dim, attention_dim)
        self.query = nn.Linear(decoder_dim, attention_dim, bias=False)
        # a bias would cancel in the softmax
        self.score = nn.Linear(attention_dim, 1, bias=False)

    def energy(self, keys: Tensor, query: Tensor) -> Tensor:
        """Score by an MLP, equation 4."""
        hidden_units = torch.tanh(keys.unsqueeze(1) + query.unsqueeze(2))  # (B, G, L, A)
        energy: Tensor = self.score(hidden_units)
        return energy.squeeze(-1)


class DotProductAttention(Attention):
    """Scaled dot product of query and key, with values (Vaswani et al. 2017, equation 1, one head).

    e_i = (W_q h) . (W_k a_i) / sqrt(A),  context = sum_i alpha_i W_v a_i
    """

    def __init__(self, encoder_dim: int, decoder_dim: int, attention_dim: int) -> None:
        """Build query and key of `attention_dim`, and a value, at first the annotation."""
        super().__init__()
        # a bias would cancel in the softmax
        self.key = nn.Linear(encoder_dim, attention_dim, bias=False)
        self.query = nn.Linear(decoder_dim, attention_dim)
        self.value = nn.Linear(encoder_dim, encoder_dim, bias=False)
        nn.init.eye_(self.value.weight)

    def project_keys(self, annotations: Tensor) -> AttentionKeys:
        """Project annotations (B, L, D) to values and keys."""
        return AttentionKeys(self.value(annotations), self.key(annotations))

    def energy(self, keys: Tensor, query: Tensor) -> Tensor:
        """Score by a scaled dot product."""
        return torch.bmm(query, keys.transpose(1, 2)) / math.sqrt(keys.shape[-1])


class CosineAttention(Attention):
    """The cosine of query and key over a learnt temperature (Graves et al. 2014, equation 5).

    e_i = cos(W_q h, W_k a_i) / tau
    """

    def __init__(self, encoder_dim: int, decoder_dim: int, attention_dim: int) -> None:
        """Build query and key of `attention_dim`, and log tau."""
        super().__init__()
        self.key = nn.Linear(encoder_dim, attention_dim)
        self.query = nn.Linear(decoder_dim, attention_dim)
        self.log_temperature = nn.Parameter(torch.tensor([math.log(_INITIAL_TEMPERATURE)]))

    def project_keys(self, annotations: Tensor) -> AttentionKeys:
        """Project annotations (B, L, D) to keys of length one."""
        return AttentionKeys(annotations, F.normalize(self.key(annotations), dim=-1))

    def energy(self, keys: Tensor, query: Tensor) -> Tensor:
        """Score by cosine similarity."""
        cosine = torch.bmm(F.normalize(query, dim=-1), keys.transpose(1, 2))
        return cosine / self.log_temperature.exp()


class HardAttention(AdditiveAttention):
    """Stochastic hard attention (Xu et al. 2015, section 4.1): one location a step.

    s_t ~ Multinoulli(alpha_t)

    In training the location is drawn, or, for a whole image with probability 0.5, replaced by its
    expectation, which is soft attention. In evaluation it is the most probable one. The map is
    one-hot, except where it is the expectation.
    """

    def project_keys(self, annotations: Tensor) -> AttentionKeys:
        """Project annotations (B, L, D); in training, draw which images take the expectation."""
        expected = None
        if self.training:
            shape = (len(annotations), 1, 1)
            expected = torch.rand(shape, device=annotations.device) < _EXPECTED_PROBABILITY
        return AttentionKeys(annotations, self.key(annotations), expected)

    def forward(self, keys: AttentionKeys, hidden: Tensor) -> AttentionOutput:
        """Attend to one location with hidden (R, N).

        The log-probability is zero where none was drawn.
        """
        logprobs = self._energies(keys, hidden).log_softmax(dim=-1)  # (B, G, L)
        if keys.expected is None:
            alpha = F.one_hot(logprobs.argmax(dim=-1), logprobs.shape[-1]).float()
            return AttentionOutput(_mean(alpha, keys), alpha.flatten(0, 1))
        probabilities = logprobs.exp()
        location = torch.multinomial(probabilities.detach().flatten(0, 1), 1)  # (R, 1)
        location = location.view(*logprobs.shape[:2], 1)  # (B, G, 1)
        drawn = torch.zeros_like(probabilities).scatter_(2, location, 1.0)
        # no gradient flows through a draw
        alpha = torch.where(keys.expected, probabilities, drawn)
        logprob = logprobs.gather(2, location).masked_fill(keys.expected, 0.0)
        entropy = -(probabilities * logprobs).sum(dim=-1)
        return AttentionOutput(
            _mean(alpha, keys), alpha.flatten(0, 1), logprob.flatten(), entropy.flatten()
        )


_KINDS: dict[AttentionKind, type[AdditiveAttention | DotProductAttention | CosineAttention]] = {
    "additive": AdditiveAttention,
    "dot-product": DotProductAttention,
    "cosine": CosineAttention,
    "hard": HardAttention,
}


def build_attention(
    kind: AttentionKind, encoder_dim: int, decoder_dim: int, attention_dim: int
) -> Attention:
    """Build the attention of that kind (`AttentionConfig.attention`)."""
    return _KINDS[kind](encoder_dim, decoder_dim, attention_dim)


def _mean(alpha: Tensor, keys: AttentionKeys) -> Tensor:
    """Average the annotations under alpha (B, G, L): context (R, D), equation 13."""
    return torch.bmm(alpha.to(keys.annotations.dtype), keys.annotations).flatten(0, 1)
