"""Two streams with co-attention (ViLBERT; Lu et al. 2019): does this sentence fit this picture?

Each stream begins alone; then they swap keys and values. Masked words, masked regions, and the
alignment head. Knows no losses and no files.

Letters in shapes: as in `models.matching.layers`.
"""

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from models.matching.config import VilbertConfig
from models.matching.layers import (
    CoAttentionLayer,
    PairOutput,
    RegionEmbedding,
    RegionStates,
    WordEmbedding,
    check_heads,
    encoder_block,
    mask_of,
)
from models.matching.regions import Regions
from models.matching.words import WordTable
from models.self_attention import EncoderBlock
from models.tokenizer import Vocabulary

__all__ = ["Vilbert"]


class Vilbert(nn.Module):
    """Words and regions in two streams, pre-norm.

    h_IMG is the state of the whole picture, the first region, and h_CLS that of the first token.
    """

    def __init__(self, config: VilbertConfig, vocab_size: int, feature_dim: int) -> None:
        """Build with random weights. Raises ConfigError where the heads do not fit."""
        super().__init__()
        check_heads(config.width, config.heads)
        self.config = config
        width = config.width
        self.table = WordTable(vocab_size, config.embed_dim, width)
        self.word_embedding = WordEmbedding(width, config.max_words + 2, config.dropout)
        self.region_embedding = RegionEmbedding(feature_dim, width, config.dropout)
        self.word_layers = self._alone(config.word_layers)
        self.region_layers = self._alone(config.region_layers)
        self.co_layers = nn.ModuleList(
            CoAttentionLayer(width, config.heads, config.dropout) for _ in range(config.co_layers)
        )
        self.words_norm = nn.LayerNorm(width)
        self.regions_norm = nn.LayerNorm(width)
        self.align = nn.Linear(width, 1)

    def prepare(self, regions: Regions) -> RegionStates:
        """Do once for a picture what no sentence changes: its stream before co-attention."""
        x: Tensor = self.region_embedding(self.table, regions)
        for layer in cast(Iterable[EncoderBlock], self.region_layers):
            x = layer(x, mask_of(regions.present))
        return RegionStates(x, regions.present)

    def forward(self, token_ids: Tensor, pictures: RegionStates | None) -> PairOutput:
        """Read sentences (R, T), each with its picture of R, or none with any.

        Without pictures co-attention is left out: its words attend to themselves alone.
        """
        present = token_ids != Vocabulary.pad_id
        words: Tensor = self.word_embedding(self.table, token_ids)
        for layer in cast(Iterable[EncoderBlock], self.word_layers):
            words = layer(words, mask_of(present))
        co_layers = cast(Iterable[CoAttentionLayer], self.co_layers)
        if pictures is None:
            for co_layer in co_layers:
                words = co_layer.words_alone(words, mask_of(present))
            return PairOutput(self.words_norm(words))
        regions = pictures.x
        for co_layer in co_layers:
            words, regions, looks = co_layer(words, present, regions, pictures.present)
        words = self.words_norm(words)
        regions = self.regions_norm(regions)
        # Lu et al. 2019, section 2.3: the product of both, element by element, then a linear layer
        fits = self.align(words[:, 0] * regions[:, 0]).squeeze(1)
        return PairOutput(words, regions, fits, looks)

    def _alone(self, count: int) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            encoder_block(config.width, config.heads, config.dropout) for _ in range(count)
        )
