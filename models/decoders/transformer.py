"""The decoder of Attention Is All You Need (Vaswani et al. 2017).

Self-attention over the words, cross-attention over the image. Knows no search.

Letters in shapes: see `models`; here E is the width of every layer. Sections are those of the
paper.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.decoders.base import CaptionDecoder, DecoderOutput, StepOutput
from models.decoders.config import TransformerConfig
from models.errors import ConfigError
from models.features import Tags
from models.multihead_attention import KeysValues, MultiHeadAttention, init_xavier_
from models.self_attention import sinusoids

__all__ = ["TransformerDecoder", "TransformerState"]


class TransformerState(NamedTuple):
    """Everything that a step depends on besides the last word, layer by layer.

    past: keys and values of the P words before, of R rows.
    image: keys and values of B images, each shared by its G rows; None without an image.
    mask: (B, 1, 1, L), which of these there are, where inputs differ in length; None for all.
    """

    past: tuple[KeysValues, ...]
    image: tuple[KeysValues, ...] | None
    mask: Tensor | None = None

    def select(self, indices: Tensor, images: Tensor | None = None) -> "TransformerState":
        """Take rows `indices` (R',), as `models.decoding.State` says."""
        image, mask = self.image, self.mask
        if image is not None and images is not None:
            image = tuple(layer.select(images) for layer in image)
            mask = None if mask is None else mask[images]
        return TransformerState(tuple(layer.select(indices) for layer in self.past), image, mask)


class _Layer(nn.Module):
    """Self-attention, cross-attention and a feed-forward part, each normalized before (pre-norm).

    `words` and `picture` are the names that self-attention and cross-attention have in the weights.
    """

    def __init__(self, embed_dim: int, feedforward_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.words_norm = nn.LayerNorm(embed_dim)
        self.picture_norm = nn.LayerNorm(embed_dim)
        self.feedforward_norm = nn.LayerNorm(embed_dim)
        self.words = MultiHeadAttention(embed_dim, heads)
        self.picture = MultiHeadAttention(embed_dim, heads)
        self.expand = nn.Linear(embed_dim, feedforward_dim)
        self.contract = nn.Linear(feedforward_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)

    def self_attend(
        self, x: Tensor, past: KeysValues, mask: Tensor | None
    ) -> tuple[Tensor, KeysValues]:
        """Attend from words x (R, T, E) to the words before and up to each.

        Gives x (R, T, E), and `past` with the keys and values of these words appended.
        """
        x_norm = self.words_norm(x)
        past = past.append(self.words.project_keys(x_norm))
        return x + self.dropout(self.words(x_norm, past, mask)[0]), past

    def cross_attend(
        self, x: Tensor, image: KeysValues, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Attend from words x (R, T, E) to the image of each row, where mask (B, 1, 1, L) is true.

        Gives x (R, T, E), and the weights (R, T, L), averaged over the heads.
        """
        # the rows of one image are one sequence: its keys and values are not repeated
        grouped = self.picture_norm(x).view(len(image.keys), -1, x.shape[2])  # (B, G * T, E)
        context, weights = self.picture(grouped, image, mask)
        return x + self.dropout(context.view_as(x)), weights.mean(dim=1).view(*x.shape[:2], -1)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Pass x (..., E) through the feed-forward part (section 3.3, with GELU)."""
        added: Tensor = self.contract(F.gelu(self.expand(self.feedforward_norm(x))))
        return x + self.dropout(added)  # type: ignore[no-any-return]


class TransformerDecoder(CaptionDecoder):
    """The decoder of section 3.1, with pre-norm and GELU.

    The map alpha is the cross-attention of the last layer, averaged over its heads; beta is always
    1.
    """

    def __init__(self, config: TransformerConfig, vocab_size: int, encoder_dim: int) -> None:
        """Build with random weights.

        Dropout acts on the annotations, on the words with their positions, on what each part of a
        layer adds, and on the readout. Raises ConfigError where the width is odd or no multiple of
        the heads.
        """
        embed_dim = config.embed_dim
        heads = config.heads
        if embed_dim % heads or embed_dim % 2:
            raise ConfigError(
                f"A Transformer's width must be even and a multiple of its {heads} heads, not "
                f"{embed_dim}."
            )
        super().__init__(
            vocab_size=vocab_size,
            encoder_dim=encoder_dim,
            embed_dim=embed_dim,
            dropout=config.dropout,
        )
        self.heads = heads
        self.project = nn.Linear(encoder_dim, embed_dim)
        self.project_norm = nn.LayerNorm(embed_dim)
        # to the scale of the sinusoids, wherever the embedding comes from
        self.embedding_norm = nn.LayerNorm(embed_dim)
        self.layers = nn.ModuleList(
            _Layer(embed_dim, config.decoder_dim, heads, config.dropout)
            for _ in range(config.layers)
        )
        self.readout_norm = nn.LayerNorm(embed_dim)
        init_xavier_(self.layers)

    def init_state(
        self, annotations: Tensor, _tags: Tags | None = None, mask: Tensor | None = None
    ) -> TransformerState:
        """Give the first state of annotations (B, L, D): their keys and values in each layer.

        mask: (B, L), which annotations there are, where inputs differ in length; None for all.
        """
        x = self.dropout(self.project_norm(self.project(self.normalise(annotations))))  # (B, L, E)
        image = tuple(layer.picture.project_keys(x) for layer in self._layers())
        seen = None if mask is None else mask[:, None, None]
        return TransformerState(self._no_words(len(annotations)), image, seen)

    def blank_state(self, rows: int, _tags: Tags | None = None) -> TransformerState:
        """Give a state without an image: cross-attention adds nothing."""
        return TransformerState(self._no_words(rows), None)

    def step(self, token_ids: Tensor, state: TransformerState) -> StepOutput[TransformerState]:
        """Read the last words (R,), append them to the state, and score the next ones."""
        output, state = self._advance(token_ids.unsqueeze(1), state)
        logits = self.logits(output.readout.squeeze(1))  # (R, V)
        return StepOutput(logits, output.alphas.squeeze(1), output.betas.squeeze(1), state)

    def forward(self, token_ids: Tensor, state: TransformerState) -> DecoderOutput:
        """Give what steps over words (R, T) would, all at once: no word sees those after it."""
        return self._advance(token_ids, state)[0]

    def _advance(
        self, token_ids: Tensor, state: TransformerState
    ) -> tuple[DecoderOutput, TransformerState]:
        """Read T more words (R, T) after the P of the state."""
        before = state.past[0].keys.shape[2]
        now = token_ids.shape[1]
        mask = _causal_mask(before, now, token_ids.device)
        words = self.embedding_norm(self.embedding(token_ids))  # (R, T, E)
        x = self.dropout(words + sinusoids(before, now, words.shape[2], words.device))
        # without an image, zero for one location
        alphas = x.new_zeros(*token_ids.shape, 1, dtype=torch.float32)
        past: list[KeysValues] = []
        for index, layer in enumerate(self._layers()):
            x, layer_past = layer.self_attend(x, state.past[index], mask)
            past.append(layer_past)
            if state.image is not None:
                # the last layer's alphas are kept
                x, alphas = layer.cross_attend(x, state.image[index], state.mask)
            x = layer.feed_forward(x)
        beta = 0.0 if state.image is None else 1.0
        betas = torch.full(token_ids.shape, beta, device=x.device)
        readout = self.dropout(self.readout_norm(x))
        return DecoderOutput(readout, alphas, betas), state._replace(past=tuple(past))

    def _layers(self) -> Iterable[_Layer]:
        return cast(Iterable[_Layer], self.layers)

    def _no_words(self, rows: int) -> tuple[KeysValues, ...]:
        head_dim = self.output.in_features // self.heads
        empty = self.output.weight.new_zeros(rows, self.heads, 0, head_dim)
        return (KeysValues(empty, empty),) * len(self.layers)


def _causal_mask(before: int, now: int, device: torch.device) -> Tensor | None:
    """Give (now, before + now), true where a word may attend; None for a single word."""
    if now == 1:
        return None
    return torch.ones(now, before + now, dtype=torch.bool, device=device).tril(before)
