"""A writer without recurrence: self-attention over the words, cross-attention over the picture.
Knows no search.

B pictures, G rows per picture, R = B * G rows grouped by picture, P words before, T words now, L
locations, D encoder features, E width, M heads, V vocabulary.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.decoders.base import CaptionDecoder, DecoderOutput, StepOutput
from models.errors import ConfigError
from models.multihead_attention import KeysValues, MultiHeadAttention, init_xavier_

__all__ = ["TransformerDecoder", "TransformerState"]

_LONGEST_WAVE = 10_000  # of the sinusoids, over 2 pi (Vaswani et al. 2017, section 3.5)


class TransformerState(NamedTuple):
    """All that a step depends on beside the last word: a value, never hidden on the module."""

    past: tuple[KeysValues, ...]  # of each layer, for the P words before: R rows
    memory: (
        tuple[KeysValues, ...] | None
    )  # of each layer: B pictures, shared by their G rows; None: no picture

    def select(self, indices: Tensor) -> "TransformerState":
        """Take rows `indices` (R',), again grouped by picture in the same order, as many for
        each picture."""
        return TransformerState(tuple(layer.select(indices) for layer in self.past), self.memory)


class _Layer(nn.Module):
    """Words among themselves, words and picture, and each word alone; each part normalized
    before (pre-norm)."""

    def __init__(self, embed_dim: int, feedforward_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.words_norm, self.picture_norm, self.feedforward_norm = (
            nn.LayerNorm(embed_dim) for _ in range(3)
        )
        self.words, self.picture = (
            MultiHeadAttention(embed_dim, heads),
            MultiHeadAttention(embed_dim, heads),
        )
        self.expand, self.contract = (
            nn.Linear(embed_dim, feedforward_dim),
            nn.Linear(feedforward_dim, embed_dim),
        )
        self.dropout = nn.Dropout(dropout)

    def self_attend(
        self, x: Tensor, past: KeysValues, mask: Tensor | None
    ) -> tuple[Tensor, KeysValues]:
        """Attend from x (R, T, E) to the words before and up to each; give what later words
        attend to."""
        x_norm = self.words_norm(x)
        past = past.append(self.words.project_keys(x_norm))
        return x + self.dropout(self.words(x_norm, past, mask)[0]), past

    def cross_attend(self, x: Tensor, memory: KeysValues) -> tuple[Tensor, Tensor]:
        """Attend from x (R, T, E) to each row's picture, the rows of a picture as one; and where
        to (R, T, L)."""
        grouped = self.picture_norm(x).view(len(memory.keys), -1, x.shape[2])  # (B, G * T, E)
        context, weights = self.picture(grouped, memory)
        return x + self.dropout(context.view_as(x)), weights.mean(dim=1).view(*x.shape[:2], -1)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Pass x (..., E) through the feed-forward part (section 3.3, with GELU)."""
        added: Tensor = self.contract(F.gelu(self.expand(self.feedforward_norm(x))))
        return x + self.dropout(added)  # type: ignore[no-any-return]


class TransformerDecoder(CaptionDecoder):
    """The decoder of Attention Is All You Need (Vaswani et al. 2017, section 3.1), with pre-norm
    and GELU.

    The map alpha is the cross-attention of the last layer, averaged over its heads; beta is always
    1.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        encoder_dim: int,
        embed_dim: int,
        feedforward_dim: int,
        layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        """Build `layers` layers of width `embed_dim`; `dropout` acts on the annotations, the words
        with their places, what each part adds, and the readout. Raises ConfigError where the width
        is odd or no multiple of the heads."""
        if embed_dim % heads or embed_dim % 2:
            raise ConfigError(
                f"A Transformer's width must be even and a multiple of its {heads} heads, not "
                f"{embed_dim}."
            )
        super().__init__(
            vocab_size=vocab_size, encoder_dim=encoder_dim, embed_dim=embed_dim, dropout=dropout
        )
        self.heads = heads
        self.project = nn.Linear(encoder_dim, embed_dim)
        self.project_norm = nn.LayerNorm(embed_dim)
        self.embedding_norm = nn.LayerNorm(
            embed_dim
        )  # to the scale of the sinusoids, wherever the words come from
        self.layers = nn.ModuleList(
            _Layer(embed_dim, feedforward_dim, heads, dropout) for _ in range(layers)
        )
        self.readout_norm = nn.LayerNorm(embed_dim)
        init_xavier_(self.layers)

    def init_state(self, annotations: Tensor) -> TransformerState:
        """From annotations (B, L, D): every layer's keys and values of the picture, and no
        words."""
        x = self.dropout(self.project_norm(self.project(self.normalise(annotations))))  # (B, L, E)
        memory = tuple(layer.picture.project_keys(x) for layer in self._stack())
        return TransformerState(self._no_words(len(annotations)), memory)

    def blank_state(self, rows: int) -> TransformerState:
        """A state without a picture, for learning the language alone: cross-attention adds
        nothing."""
        return TransformerState(self._no_words(rows), None)

    def step(self, token_ids: Tensor, state: TransformerState) -> StepOutput[TransformerState]:
        """Read the last words (R,), whose keys and values join the state, and score the next
        ones."""
        output, state = self._advance(token_ids.unsqueeze(1), state)
        readout, alpha, beta = (part.squeeze(1) for part in output[:3])
        return StepOutput(self.logits(readout), alpha, beta, state)

    def forward(self, token_ids: Tensor, state: TransformerState) -> DecoderOutput:
        """Teacher forcing: the same as steps over words (R, T), all at once, each word blind to
        those after it."""
        return self._advance(token_ids, state)[0]

    def _advance(
        self, token_ids: Tensor, state: TransformerState
    ) -> tuple[DecoderOutput, TransformerState]:
        """Read T more words (R, T) behind the P of the state."""
        before, now = state.past[0].keys.shape[2], token_ids.shape[1]
        mask = None  # a single word may see all that is there
        if now > 1:
            mask = torch.ones(now, before + now, dtype=torch.bool, device=token_ids.device).tril(
                before
            )
        words = self.embedding_norm(self.embedding(token_ids))  # (R, T, E)
        x = self.dropout(words + _positions(before, now, words.shape[2], words.device))
        alphas, past = None, []
        for index, layer in enumerate(self._stack()):
            x, seen = layer.self_attend(x, state.past[index], mask)
            past.append(seen)
            if state.memory is not None:
                x, alphas = layer.cross_attend(x, state.memory[index])  # the last layer's stay
            x = layer.feed_forward(x)
        betas = torch.full(token_ids.shape, float(alphas is not None), device=x.device)
        if alphas is None:
            alphas = betas.unsqueeze(2)  # no picture: zero for one location
        readout = self.dropout(self.readout_norm(x))
        return DecoderOutput(readout, alphas, betas), TransformerState(tuple(past), state.memory)

    def _stack(self) -> Iterable[_Layer]:
        return cast(Iterable[_Layer], self.layers)

    def _no_words(self, rows: int) -> tuple[KeysValues, ...]:
        nothing = self.output.weight.new_zeros(
            rows, self.heads, 0, self.output.in_features // self.heads
        )
        return (KeysValues(nothing, nothing),) * len(self.layers)


def _positions(first: int, count: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids of places `first`, `first` + 1, ...: (count, width), sine and cosine in turn
    (section 3.5)."""
    place = torch.arange(first, first + count, device=device, dtype=torch.float32)
    rate = _LONGEST_WAVE ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.outer(place, rate)  # (count, width / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
