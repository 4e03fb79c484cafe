"""Encoder and decoder together: one captioner as a torch module, built from its configuration.
Knows no files."""

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.decoders.base import CaptionDecoder
from models.encoders import build_encoder
from models.encoders.base import Encoder

__all__ = ["CaptioningModel", "build_model", "overlap", "sees_more"]


class CaptioningModel(nn.Module):
    """Show, Attend and Tell and its family: `encoder` gives annotations, `decoder` writes from
    them."""

    def __init__(self, encoder: Encoder, decoder: CaptionDecoder) -> None:
        """Join the two halves."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalized images (B, 3, H, W) to annotations (B, L, D)."""
        annotations: Tensor = self.encoder(images)
        return annotations


def build_model(config: ModelConfig) -> CaptioningModel:
    """Build the architecture that `config` describes, with random weights; raise ConfigError
    where it cannot be."""
    encoder = build_encoder(config.encoder, config.preprocess.size_pixels)
    decoder = config.decoder.build(config.vocab_size, encoder.feature_dim)
    return CaptioningModel(encoder, decoder)


def sees_more(model: CaptioningModel, source: CaptioningModel) -> bool:
    """Whether the model's encoder is the source's with more in it, whose features come behind
    the source's."""
    own, lent = _shapes(model.encoder), _shapes(source.encoder)
    return lent.items() < own.items() and source.encoder.feature_dim < model.encoder.feature_dim


def overlap(model: CaptioningModel, source: CaptioningModel) -> dict[str, Tensor]:
    """Give the source's tensors that fit, by name: those of the same shape.

    Where the model sees more than the source, also those that lack nothing but the columns of the
    features behind.
    """
    wanted = _shapes(model)
    features = (
        (source.encoder.feature_dim, model.encoder.feature_dim)
        if sees_more(model, source)
        else None
    )

    def fits(own: torch.Size, lent: torch.Size) -> bool:
        return own == lent or (own[:-1] == lent[:-1] and (lent[-1], own[-1]) == features)

    return {
        name: t
        for name, t in source.state_dict().items()
        if name in wanted and fits(wanted[name], t.shape)
    }


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
