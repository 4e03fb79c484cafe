"""Two encoders into one space, learnt by noise-contrastive estimation.

Pictures and sentences are vectors whose product says how well they fit, so that pictures can be
searched (Kiros et al. 2014; the loss is that of van den Oord et al. 2018, equation 4, both ways as
in Radford et al. 2021). Knows no losses and no files.

Letters in shapes: J dimensions of the common space; the others as in `models.matching.layers`.
"""

import math
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.matching.config import NceConfig
from models.matching.layers import (
    AttentionPooling,
    RegionEmbedding,
    WordEmbedding,
    check_heads,
    encoder_block,
    mask_of,
)
from models.matching.regions import Regions
from models.matching.words import WordTable
from models.self_attention import EncoderBlock
from models.tokenizer import Vocabulary

__all__ = ["NceMatcher"]

# The temperature at first, and the largest that the product's factor may become (Radford et al.
# 2021, section 2.5).
_FIRST_TEMPERATURE = 0.07
_MAX_SCALE = 100.0


class NceMatcher(nn.Module):
    """A picture's encoder and a sentence's encoder, and how sharply their product tells."""

    def __init__(self, config: NceConfig, vocab_size: int, feature_dim: int) -> None:
        """Build with random weights. Raises ConfigError where the heads do not fit."""
        super().__init__()
        check_heads(config.width, config.heads)
        self.config = config
        width = config.width
        self.table = WordTable(vocab_size, config.embed_dim, width)
        self.sentence = _SentenceEncoder(config)
        self.region_embedding = RegionEmbedding(feature_dim, width, config.dropout)
        self.region_layers = nn.ModuleList(
            encoder_block(width, config.heads, config.dropout) for _ in range(config.region_layers)
        )
        self.pooling = AttentionPooling(width, config.heads)
        self.picture_space = nn.Linear(2 * width, config.joint_dim)
        self.sentence_space = nn.Linear(width, config.joint_dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(_FIRST_TEMPERATURE)))

    @property
    def scale(self) -> Tensor:
        """The inverse of the temperature: what products are multiplied with."""
        return self.log_scale.exp().clamp(max=_MAX_SCALE)

    def encode_pictures(self, regions: Regions) -> Tensor:
        """Give the vectors of B pictures, of length 1: (B, J)."""
        x = self.region_embedding(self.table, regions)
        for layer in cast(Iterable[EncoderBlock], self.region_layers):
            x = layer(x, mask_of(regions.present))
        pooled, _ = self.pooling(x, regions.present)
        # beside what attention picks, the mean of all: the gist of the scene
        there = regions.present.unsqueeze(2)
        mean = (x * there).sum(dim=1) / there.sum(dim=1)
        return F.normalize(self.picture_space(torch.cat([pooled, mean], dim=1)), dim=1)

    def encode_sentences(self, token_ids: Tensor) -> Tensor:
        """Give the vectors of R sentences (R, T), of length 1: (R, J)."""
        there = (token_ids != Vocabulary.pad_id).unsqueeze(2)
        x = self.sentence(self.table, token_ids)
        mean = (x * there).sum(dim=1) / there.sum(dim=1)
        return F.normalize(self.sentence_space(mean), dim=1)

    def read(self, token_ids: Tensor) -> Tensor:
        """Give the words' states (R, T, E), from which masked words are guessed."""
        states: Tensor = self.sentence(self.table, token_ids)
        return states


class _SentenceEncoder(nn.Module):
    """Words in their sentence: a bidirectional GRU (Cho et al. 2014), or Transformer layers."""

    def __init__(self, config: NceConfig) -> None:
        super().__init__()
        width = config.width
        self.words = WordEmbedding(width, config.max_words + 2, config.dropout)
        self.recurrent = None
        self.layers = nn.ModuleList()
        if config.sentence == "recurrent":
            self.recurrent = nn.GRU(
                width,
                width,
                num_layers=config.word_layers,
                batch_first=True,
                bidirectional=True,
            )
        else:
            self.layers.extend(
                encoder_block(width, config.heads, config.dropout)
                for _ in range(config.word_layers)
            )

    def forward(self, table: WordTable, token_ids: Tensor) -> Tensor:
        """Give the states of tokens (R, T): (R, T, E); those of padding mean nothing."""
        x: Tensor = self.words(table, token_ids)
        present = token_ids != Vocabulary.pad_id
        if self.recurrent is not None:
            return self._recur(x, present)
        for layer in cast(Iterable[EncoderBlock], self.layers):
            x = layer(x, mask_of(present))
        return x

    def _recur(self, x: Tensor, present: Tensor) -> Tensor:
        """Read x (R, T, E) from both ends; the mean of both directions."""
        assert self.recurrent is not None
        lengths = present.sum(dim=1).cpu()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            self.recurrent(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        forward, backward = states.chunk(2, dim=2)
        return (forward + backward) / 2
