"""Encoder and decoder together: one captioner as a torch module, built from its configuration. Knows no files."""

from torch import Tensor, nn

from models.config import ModelConfig
from models.decoder import AttentionDecoder
from models.encoder import Encoder, build_encoder

__all__ = ["CaptioningModel", "build_model"]


class CaptioningModel(nn.Module):
    """Show, Attend and Tell: `encoder` gives annotations, `decoder` writes from them."""

    def __init__(self, encoder: Encoder, decoder: AttentionDecoder) -> None:
        """Join the two halves."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images (B, 3, H, W) to annotations (B, L, D)."""
        annotations: Tensor = self.encoder(images)
        return annotations


def build_model(config: ModelConfig) -> CaptioningModel:
    """Build the architecture that `config` describes, with random weights; raise ConfigError where it cannot be."""
    encoder = build_encoder(config.encoder, config.preprocess.size_pixels)
    decoder = AttentionDecoder(
        vocab_size=config.vocab_size,
        encoder_dim=encoder.feature_dim,
        embed_dim=config.embed_dim,
        decoder_dim=config.decoder_dim,
        attention_dim=config.attention_dim,
        dropout=config.dropout,
    )
    return CaptioningModel(encoder, decoder)
