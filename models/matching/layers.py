"""What the matchers are made of: Transformer layers, co-attention, and regions as vectors.

Knows no losses. Letters in shapes: N regions of a picture, T tokens, E width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.errors import ConfigError
from models.matching.regions import Regions
from models.matching.words import WordTable
from models.multihead_attention import MultiHeadAttention, init_xavier_
from models.self_attention import EncoderBlock

__all__ = [
    "AttentionPooling",
    "CoAttentionLayer",
    "PairOutput",
    "RegionEmbedding",
    "RegionStates",
    "WordEmbedding",
    "check_heads",
    "encoder_block",
    "mask_of",
]

# a region's box, its area, and how sure the tagger is
_GEOMETRY = 6
# A feature's spread before training is that of the other summands (Su et al. 2020, appendix).
_TABLE_SPREAD = 0.02


def check_heads(width: int, heads: int) -> None:
    """Raise ConfigError where the heads do not divide the width."""
    if width % heads:
        raise ConfigError(
            f"A matcher's width must be a multiple of its {heads} heads, not {width}."
        )


class RegionStates(NamedTuple):
    """Regions of B pictures as vectors: x (B, N, E), present (B, N) bool."""

    x: Tensor
    present: Tensor

    def select(self, pictures: Tensor | slice) -> "RegionStates":
        """Take some pictures."""
        return RegionStates(self.x[pictures], self.present[pictures])


class PairOutput(NamedTuple):
    """R sentences, each read with a picture, or without any.

    words: (R, T, E). regions: (R, N, E); None without pictures.
    fits: (R,), the logit of the sentence fitting the picture; None where no head tells.
    looks: (R, T, N), how much each word leans on each region; None without pictures.
    """

    words: Tensor
    regions: Tensor | None = None
    fits: Tensor | None = None
    looks: Tensor | None = None


def encoder_block(width: int, heads: int, dropout: float) -> EncoderBlock:
    """Build a Transformer layer without a direction (Devlin et al. 2019), with random weights."""
    block = EncoderBlock(width, heads, dropout=dropout)
    init_xavier_(block)
    return block


def mask_of(present: Tensor) -> Tensor:
    """Lay present (R, S) bool out as attention asks for it: (R, 1, 1, S)."""
    return present[:, None, None, :]


class CoAttentionLayer(nn.Module):
    """Two streams that swap keys and values (Lu et al. 2019, section 2.2, figure 2b).

    Then each stream attends to itself.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Build with random weights."""
        super().__init__()
        self.words = encoder_block(width, heads, dropout)
        self.regions = encoder_block(width, heads, dropout)
        self.words_alone = encoder_block(width, heads, dropout)
        self.regions_alone = encoder_block(width, heads, dropout)

    def forward(
        self, words: Tensor, words_present: Tensor, regions: Tensor, regions_present: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Let words (R, T, E) attend to regions (R, N, E), and these to the words, at once.

        Gives both, and how much each word looked at each region, (R, T, N).
        """
        words_norm = self.words.attention_norm(words)
        regions_norm = self.regions.attention_norm(regions)
        # each side's keys and values are made by its own projections, and go to the other side
        words_keys = self.words.attention.project_keys(words_norm)
        regions_keys = self.regions.attention.project_keys(regions_norm)
        from_regions, looks = self.words.attention(
            words_norm, regions_keys, mask_of(regions_present)
        )
        from_words, _ = self.regions.attention(regions_norm, words_keys, mask_of(words_present))
        words = self.words.add(words, from_regions)
        regions = self.regions.add(regions, from_words)
        words = self.words_alone(words, mask_of(words_present))
        regions = self.regions_alone(regions, mask_of(regions_present))
        return words, regions, looks.mean(dim=1)


class AttentionPooling(nn.Module):
    """A learnt query attends to what there is (Lee et al. 2019, section 3.2): one vector of all."""

    def __init__(self, width: int, heads: int) -> None:
        """Build with random weights."""
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.attention = MultiHeadAttention(width, heads)
        init_xavier_(self.attention)

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Pool x (B, N, E) over those present (B, N): (B, E), and the shares (B, N) of each."""
        query = self.query.expand(len(x), -1, -1)
        keys = self.attention.project_keys(x)
        answers, weights = self.attention(query, keys, mask_of(present))
        return answers.squeeze(1), weights.mean(dim=1).squeeze(1)


class WordEmbedding(nn.Module):
    """Tokens with their places in the sentence (Devlin et al. 2019, section 3)."""

    def __init__(self, width: int, max_tokens: int, dropout: float) -> None:
        """Build with random weights."""
        super().__init__()
        self.positions = nn.Embedding(max_tokens, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.positions.weight, std=_TABLE_SPREAD)

    def forward(self, table: WordTable, token_ids: Tensor) -> Tensor:
        """Give the vectors of tokens (R, T), read through the matcher's table: (R, T, E)."""
        places = torch.arange(token_ids.shape[1], device=token_ids.device)
        x: Tensor = self.dropout(self.norm(table(token_ids) + self.positions(places)))
        return x


class RegionEmbedding(nn.Module):
    """Regions as vectors: what was seen there, where it is, and the words of its class."""

    def __init__(self, feature_dim: int, width: int, dropout: float) -> None:
        """Build with random weights."""
        super().__init__()
        self.normalise = nn.LayerNorm(feature_dim)
        self.seen = nn.Linear(feature_dim, width)
        self.geometry = nn.Linear(_GEOMETRY, width)
        self.unknown = nn.Parameter(torch.zeros(width))  # in place of a masked region's class
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, table: WordTable, regions: Regions) -> Tensor:
        """Give a vector (B, N, E) for each region, its class named through the matcher's table."""
        named = table.name_classes(regions.classes)
        named = torch.where(regions.masked.unsqueeze(2), self.unknown, named)
        x = self.see(regions.features) + self.geometry(_describe(regions)) + named
        vectors: Tensor = self.dropout(self.norm(x))
        return vectors

    def see(self, features: Tensor) -> Tensor:
        """Give what was seen, features (..., D), as vectors (..., E)."""
        seen: Tensor = self.seen(self.normalise(features))
        return seen


def _describe(regions: Regions) -> Tensor:
    """Give box, area and score of each region: (B, N, 6)."""
    left, top, right, bottom = regions.boxes.unbind(dim=2)
    area = (right - left) * (bottom - top)
    return torch.cat([regions.boxes, torch.stack([area, regions.scores], dim=2)], dim=2)
