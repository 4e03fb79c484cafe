"""Where to look: from the annotations and the hidden state to a context and the map alpha. Knows no
words.

B pictures, G rows per picture (captions in training, beams in decoding), R = B * G rows grouped by
picture, L locations, D encoder features, A attention, N hidden.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

_EXPECTED_PROBABILITY = (
    0.5  # how often hard attention takes the expectation in training (section 4.1)
)
_FIRST_TEMPERATURE = 0.1  # of cosine attention: similarities lie in [-1, 1], too near for a softmax


class AttentionKeys(NamedTuple):
    """What attention needs of a picture, computed once: what contexts are made of (B, L, D) and
    keys (B, L, A).

    `expected` (B, 1, 1) is hard attention's: true where the picture's contexts are expectations;
    None otherwise.
    """

    annotations: Tensor
    keys: Tensor
    expected: Tensor | None = None


class AttentionOutput(NamedTuple):
    """One look: context (R, D) and the map alpha (R, L), which is what the context was made with.

    Of a location that was drawn, its log-probability (R,) and the entropy (R,) of what it was drawn
    from, in nats: what REINFORCE needs. Both are None where nothing is drawn.
    """

    context: Tensor
    alpha: Tensor
    logprob: Tensor | None = None
    entropy: Tensor | None = None


class Attention(nn.Module):
    """What every kind has in common: keys once a picture, a distribution over locations, the
    mean under it."""

    key: nn.Linear
    query: nn.Linear

    def project_keys(self, annotations: Tensor) -> AttentionKeys:
        """Project annotations (B, L, D) once, for all the steps to come."""
        return AttentionKeys(annotations, self.key(annotations))

    def forward(self, memory: AttentionKeys, hidden: Tensor) -> AttentionOutput:
        """Look for hidden (R, N)."""
        alpha = (
            self.energy(memory.keys, self._query(memory, hidden)).float().softmax(dim=-1)
        )  # (B, G, L)
        return AttentionOutput(_mean(alpha, memory), alpha.flatten(0, 1))

    def energy(self, keys: Tensor, query: Tensor) -> Tensor:
        """Score every location: keys (B, L, A), query (B, G, A) to (B, G, L)."""
        raise NotImplementedError

    def _query(self, memory: AttentionKeys, hidden: Tensor) -> Tensor:
        query: Tensor = self.query(hidden)
        return query.view(len(memory.annotations), -1, query.shape[-1])  # (B, G, A)


class AdditiveAttention(Attention):
    """Deterministic soft attention (Xu et al. 2015, equations 4, 5 and 13).

    e_i = w . tanh(W_a a_i + W_h h),  alpha = softmax(e),  context = sum_i alpha_i a_i
    """

    def __init__(self, encoder_dim: int, decoder_dim: int, attention_dim: int) -> None:
        """Build f_att with `attention_dim` hidden units."""
        super().__init__()
        self.key = nn.Linear(encoder_dim, attention_dim)
        self.query = nn.Linear(decoder_dim, attention_dim, bias=False)
        self.score = nn.Linear(attention_dim, 1, bias=False)  # a bias would cancel in the softmax

    def energy(self, keys: Tensor, query: Tensor) -> Tensor:
        """Score by an MLP, equation 4."""
        hidden_units = torch.tanh(keys.unsqueeze(1) + query.unsqueeze(2))  # (B, G, L, A)
        energy: Tensor = self.score(hidden_units)
        return energy.squeeze(-1)


class DotProductAttention(Attention):
    """Scaled dot product of query and key, the context made of values (Vaswani et al. 2017,
    equation 1, one head).

    e_i = (W_q h) . (W_k a_i) / sqrt(A),  context = sum_i alpha_i W_v a_i
    """

    def __init__(self, encoder_dim: int, decoder_dim: int, attention_dim: int) -> None:
        """Build query and key of `attention_dim`, and a value as wide as an annotation, the
        annotation at first."""
        super().__init__()
        self.key = nn.Linear(
            encoder_dim, attention_dim, bias=False
        )  # a bias would cancel in the softmax
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
    """Content-based addressing: cosine of query and key over a learnt temperature (Graves et al.
    2014, equation 5).

    e_i = cos(W_q h, W_k a_i) / tau
    """

    def __init__(self, encoder_dim: int, decoder_dim: int, attention_dim: int) -> None:
        """Build query and key of `attention_dim`, and log tau."""
        super().__init__()
        self.key = nn.Linear(encoder_dim, attention_dim)
        self.query = nn.Linear(decoder_dim, attention_dim)
        self.log_temperature = nn.Parameter(torch.tensor([math.log(_FIRST_TEMPERATURE)]))

    def project_keys(self, annotations: Tensor) -> AttentionKeys:
        """Project annotations (B, L, D) once, to keys of length one."""
        return AttentionKeys(annotations, F.normalize(self.key(annotations), dim=-1))

    def energy(self, keys: Tensor, query: Tensor) -> Tensor:
        """Score by cosine similarity."""
        return (
            torch.bmm(F.normalize(query, dim=-1), keys.transpose(1, 2)) / self.log_temperature.exp()
        )


class HardAttention(AdditiveAttention):
    """Stochastic hard attention (Xu et al. 2015, section 4.1): one location a step, s_t ~
    Multinoulli(alpha_t).

    In training the location is drawn, or, for a whole picture with probability 0.5, replaced by its
    expectation, which is soft attention. In evaluation it is the most probable one. The map is
    one-hot but where it is the expectation.
    """

    def project_keys(self, annotations: Tensor) -> AttentionKeys:
        """Project annotations (B, L, D) once; in training, draw which pictures take the
        expectation."""
        shape = (len(annotations), 1, 1)
        expected = (
            torch.rand(shape, device=annotations.device) < _EXPECTED_PROBABILITY
            if self.training
            else None
        )
        return AttentionKeys(annotations, self.key(annotations), expected)

    def forward(self, memory: AttentionKeys, hidden: Tensor) -> AttentionOutput:
        """Look at one location for hidden (R, N); its log-probability counts only where it was
        drawn."""
        logprobs = (
            self.energy(memory.keys, self._query(memory, hidden)).float().log_softmax(dim=-1)
        )  # (B, G, L)
        if memory.expected is None:
            alpha = F.one_hot(logprobs.argmax(dim=-1), logprobs.shape[-1]).float()
            return AttentionOutput(_mean(alpha, memory), alpha.flatten(0, 1))
        probabilities = logprobs.exp()
        place = torch.multinomial(probabilities.detach().flatten(0, 1), 1).view(
            *logprobs.shape[:2], 1
        )  # (B, G, 1)
        drawn = torch.zeros_like(probabilities).scatter_(2, place, 1.0)
        alpha = torch.where(
            memory.expected, probabilities, drawn
        )  # no gradient flows through a draw
        logprob = logprobs.gather(2, place).masked_fill(memory.expected, 0.0)
        entropy = -(probabilities * logprobs).sum(dim=-1)
        return AttentionOutput(
            _mean(alpha, memory), alpha.flatten(0, 1), logprob.flatten(), entropy.flatten()
        )


def build_attention(kind: str, encoder_dim: int, decoder_dim: int, attention_dim: int) -> Attention:
    """Build the attention of that kind (`ModelConfig.attention`)."""
    kinds: dict[str, type[AdditiveAttention | DotProductAttention | CosineAttention]] = {
        "additive": AdditiveAttention,
        "dot-product": DotProductAttention,
        "cosine": CosineAttention,
        "hard": HardAttention,
    }
    return kinds[kind](encoder_dim, decoder_dim, attention_dim)


def _mean(alpha: Tensor, memory: AttentionKeys) -> Tensor:
    """The mean of the annotations under alpha (B, G, L): context (R, D), equation 13."""
    return torch.bmm(alpha.to(memory.annotations.dtype), memory.annotations).flatten(0, 1)
