"""A Transformer decoder of two narrow layers, and images for it."""

import torch
from torch import Tensor

from models.decoders.config import TransformerConfig
from models.decoders.transformer import TransformerDecoder

B, G, L, D, E, V, T = 3, 2, 5, 7, 12, 11, 4
HEADS = 3


def small_decoder(dropout: float = 0.5, layers: int = 2) -> TransformerDecoder:
    torch.manual_seed(0)
    config = TransformerConfig(
        embed_dim=E, decoder_dim=16, layers=layers, heads=HEADS, dropout=dropout
    )
    return TransformerDecoder(config, V, D).eval()


def random_annotations() -> Tensor:
    return 3 * torch.randn(B, L, D, generator=torch.Generator().manual_seed(1)) + 1
