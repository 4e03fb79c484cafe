"""One stream over words and regions (VL-BERT; Su et al. 2020, section 3).

[CLS] words [SEP] regions [END], each element the sum of a token, a segment, a position and a visual
embedding. It fills blanks in sentences, and guesses regions that were hidden. Knows no losses and
no files.

Letters in shapes: as in `models.matching.layers`.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from models.matching.config import VlBertConfig
from models.matching.layers import (
    PairOutput,
    RegionEmbedding,
    RegionStates,
    check_heads,
    encoder_block,
    mask_of,
)
from models.matching.regions import Regions
from models.matching.words import WordTable
from models.self_attention import EncoderBlock
from models.tokenizer import Vocabulary

__all__ = ["VlBert"]

_WORDS, _REGIONS = range(2)
_SPREAD = 0.02


class VlBert(nn.Module):
    """A Transformer whose words see the whole picture, and whose regions see themselves."""

    def __init__(self, config: VlBertConfig, vocab_size: int, feature_dim: int) -> None:
        """Build with random weights. Raises ConfigError where the heads do not fit."""
        super().__init__()
        check_heads(config.width, config.heads)
        self.config = config
        width = config.width
        self.table = WordTable(vocab_size, config.embed_dim, width)
        # the visual embedding: appearance, geometry, and the words of a tag's class
        self.region_embedding = RegionEmbedding(feature_dim, width, config.dropout)
        self.whole = nn.Linear(width, width)
        self.segments = nn.Embedding(2, width)
        # one position for each token; one for all regions, which have no order; one for [END]
        self.positions = nn.Embedding(config.max_words + 4, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            encoder_block(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.last_norm = nn.LayerNorm(width)
        for table in (self.segments, self.positions):
            nn.init.normal_(table.weight, std=_SPREAD)

    def prepare(self, regions: Regions) -> RegionStates:
        """Do once for a picture what no sentence changes: its visual embeddings."""
        return RegionStates(self.region_embedding(self.table, regions), regions.present)

    def forward(self, token_ids: Tensor, pictures: RegionStates | None) -> PairOutput:
        """Read sentences (R, T), each with its picture of R, or none with any."""
        count = token_ids.shape[1]
        words = self._embed_words(token_ids)
        if pictures is not None:
            words = words + self.whole(pictures.x[:, :1])
        x = [words]
        present = [token_ids != Vocabulary.pad_id]
        if pictures is not None:
            x.append(self._embed_regions(pictures))
            present.append(pictures.present)
        x.append(self._embed_end(len(token_ids), token_ids.device))
        present.append(torch.ones(len(token_ids), 1, dtype=torch.bool, device=token_ids.device))
        stream: Tensor = self.dropout(self.norm(torch.cat(x, dim=1)))
        there = torch.cat(present, dim=1)
        for layer in cast(Iterable[EncoderBlock], self.layers):
            stream, weights = layer.attend(stream, mask_of(there))
        stream = self.last_norm(stream)
        if pictures is None:
            return PairOutput(stream[:, :count])
        looks = weights[:, :count, count:-1]
        return PairOutput(stream[:, :count], stream[:, count:-1], looks=looks)

    def _embed_words(self, token_ids: Tensor) -> Tensor:
        places = torch.arange(token_ids.shape[1], device=token_ids.device)
        x: Tensor = self.table(token_ids) + self.positions(places)
        return x + self.segments.weight[_WORDS]

    def _embed_regions(self, pictures: RegionStates) -> Tensor:
        token = self.table(torch.tensor(self.table.image_id, device=pictures.x.device))
        place = self.positions.weight[self.config.max_words + 2]
        x: Tensor = pictures.x + token + place + self.segments.weight[_REGIONS]
        return x

    def _embed_end(self, rows: int, device: torch.device) -> Tensor:
        token = self.table(torch.tensor(self.table.end_id, device=device))
        end: Tensor = token + self.positions.weight[-1] + self.segments.weight[_REGIONS]
        return end.expand(rows, 1, -1)
