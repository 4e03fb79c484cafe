"""Networks that read a sentence: source subwords to annotations. Knows no strings.

Letters in shapes: see `models.translation`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.errors import ConfigError
from models.multihead_attention import init_xavier_
from models.self_attention import EncoderBlock, sinusoids
from models.translation.config import TransformerArchitecture

__all__ = ["RecurrentEncoder", "SourceEncoding", "TransformerEncoder"]


class SourceEncoding(NamedTuple):
    """What a decoder reads of B sentences.

    annotations: (B, L, D). mask: (B, L) bool, true where there is a subword.
    last: the last hidden state and cell of a recurrent encoder, (B, D) each; None of a Transformer.
    """

    annotations: Tensor
    mask: Tensor
    last: tuple[Tensor, Tensor] | None


class RecurrentEncoder(nn.Module):
    """An LSTM over the subwords, in one direction or both (Bahdanau et al. 2015, section 3.2)."""

    def __init__(
        self,
        embedding: nn.Embedding,
        *,
        encoder_dim: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        """Build with random weights; dropout acts on the embedded subwords.

        encoder_dim: D; of both directions together.
        """
        super().__init__()
        self.embedding = embedding
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(
            embedding.embedding_dim,
            encoder_dim // (2 if bidirectional else 1),
            batch_first=True,
            bidirectional=bidirectional,
        )
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("weight_hh"):
                for gate in parameter.chunk(4):
                    nn.init.orthogonal_(gate)

    def forward(self, token_ids: Tensor, mask: Tensor) -> SourceEncoding:
        """Read token_ids (B, L), padded where mask (B, L) is false."""
        words = self.dropout(self.embedding(token_ids))  # (B, L, E)
        lengths = mask.sum(dim=1).cpu()
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        outputs, (hidden, cell) = self.lstm(packed)  # hidden and cell (directions, B, N)
        annotations, _ = pad_packed_sequence(
            outputs, batch_first=True, total_length=token_ids.shape[1]
        )
        last = (hidden.transpose(0, 1).flatten(1), cell.transpose(0, 1).flatten(1))
        return SourceEncoding(annotations, mask, last)


class TransformerEncoder(nn.Module):
    """The encoder of Attention Is All You Need (Vaswani et al. 2017, section 3.1), pre-norm."""

    def __init__(self, embedding: nn.Embedding, config: TransformerArchitecture) -> None:
        """Build with random weights.

        Dropout acts on the subwords with their positions, and on what each part of a layer adds.
        Raises ConfigError where the width is odd or no multiple of the heads.
        """
        super().__init__()
        width = config.embed_dim
        if width % config.heads or width % 2:
            raise ConfigError(
                f"A Transformer's width must be even and a multiple of its {config.heads} heads, "
                f"not {width}."
            )
        self.embedding = embedding
        self.embedding_norm = nn.LayerNorm(width)  # to the scale of the sinusoids
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                width,
                config.heads,
                feedforward_dim=config.feedforward_dim,
                dropout=config.dropout,
            )
            for _ in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        init_xavier_(self.blocks)

    def forward(self, token_ids: Tensor, mask: Tensor) -> SourceEncoding:
        """Read token_ids (B, L), padded where mask (B, L) is false."""
        words: Tensor = self.embedding_norm(self.embedding(token_ids))  # (B, L, E)
        x = self.dropout(words + sinusoids(0, words.shape[1], words.shape[2], words.device))
        seen = mask[:, None, None]  # (B, 1, 1, L)
        for block in self.blocks:
            x = block(x, seen)
        annotations = torch.where(mask.unsqueeze(-1), self.norm(x), 0.0)  # (B, L, D)
        return SourceEncoding(annotations, mask, None)
