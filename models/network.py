"""Encoder and decoder together: a captioner as a torch module, built from its configuration.

Knows no files.
"""

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.decoders.base import CaptionDecoder
from models.encoders import build_encoder
from models.encoders.base import Encoder

__all__ = ["CaptioningModel", "build_model", "overlap", "sees_more"]


class CaptioningModel(nn.Module):
    """Show, Attend and Tell and its family: an encoder gives annotations, a decoder words."""

    def __init__(self, encoder: Encoder, decoder: CaptionDecoder) -> None:
        """Join the two halves."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalized images (B, 3, S, S) to annotations (B, L, D)."""
        annotations: Tensor = self.encoder(images)
        return annotations


def build_model(config: ModelConfig) -> CaptioningModel:
    """Build the architecture that `config` describes, with random weights.

    Raises ConfigError where it contradicts itself.
    """
    encoder = build_encoder(config.encoder, config.preprocess.size_pixels)
    decoder = config.decoder.build(config.vocab_size, encoder.feature_dim)
    return CaptioningModel(encoder, decoder)


def sees_more(model: CaptioningModel, source: CaptioningModel) -> bool:
    """Tell whether the model's encoder has all tensors of the source's and more.

    It then gives more features, behind the source's.
    """
    own, other = model.encoder, source.encoder
    has_more_tensors = _shapes(other).items() < _shapes(own).items()
    return has_more_tensors and other.feature_dim < own.feature_dim


def overlap(model: CaptioningModel, source: CaptioningModel) -> dict[str, Tensor]:
    """Give the source's tensors that fit into the model, by name: those of the same shape.

    Where the model sees more than the source, a tensor also fits that lacks only the columns of the
    additional features.
    """
    widths = None
    if sees_more(model, source):
        widths = (source.encoder.feature_dim, model.encoder.feature_dim)

    def fits(own: torch.Size, other: torch.Size) -> bool:
        return own == other or (own[:-1] == other[:-1] and (other[-1], own[-1]) == widths)

    own_shapes = _shapes(model)
    return {
        name: tensor
        for name, tensor in source.state_dict().items()
        if name in own_shapes and fits(own_shapes[name], tensor.shape)
    }


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
