"""Encoder, tagger and decoder together: a captioner as a torch module, by its configuration.

Knows no files.
"""

import torch
from torch import Tensor, nn

from models.architectures.grids import check_tags
from models.config import ModelConfig, PreprocessConfig
from models.decoders.base import CaptionDecoder
from models.encoders import build_encoder
from models.encoders.base import Encoder, resize
from models.features import ImageFeatures
from models.tagging.tagger import Tagger

__all__ = [
    "CaptioningModel",
    "build_model",
    "columns_of_source",
    "normalize",
    "overlap",
    "sees_more",
]


def normalize(pixels: Tensor, config: PreprocessConfig) -> Tensor:
    """Map pixels (B, 3, H, W), RGB from 0 to 255, to float32: (rgb - mean) / std per channel."""
    device = pixels.device
    mean = torch.tensor(config.mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    return (pixels.to(torch.float32) - mean) / std  # (B, 3, H, W)


class CaptioningModel(nn.Module):
    """Show, Attend and Tell and its family: an encoder gives annotations, a decoder words.

    A tagger, if there is one, adds what its classifier sees to the annotations, and gives tags.
    """

    def __init__(
        self, encoder: Encoder, decoder: CaptionDecoder, tagger: Tagger | None = None
    ) -> None:
        """Join the parts."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.tagger = tagger

    @property
    def feature_dim(self) -> int:
        """D: the features of a cell, of the encoder and behind them of the tagger."""
        return self.encoder.feature_dim + (0 if self.tagger is None else self.tagger.feature_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalized images (B, 3, S, S) to annotations (B, L, D)."""
        annotations: Tensor = self.encoder(images)
        return annotations

    def see(self, pixels: Tensor, preprocess: PreprocessConfig) -> ImageFeatures:
        """Give all that the decoder reads of pixels (B, 3, S, S) uint8 RGB.

        The encoder sees them at its own size.
        """
        images = resize(pixels, self.encoder.size_pixels)
        images = normalize(images, preprocess).contiguous(memory_format=torch.channels_last)
        annotations = self(images)
        if self.tagger is None:
            return ImageFeatures(annotations)
        sighting = self.tagger(pixels)
        maps = sighting.maps.to(annotations.dtype)
        return ImageFeatures(torch.cat([annotations, maps], dim=2), sighting.tags)

    def without_encoder(self, features: ImageFeatures, hidden: Tensor) -> ImageFeatures:
        """Hide what the encoder saw of some images, hidden (B,) bool; the tagger's part stays."""
        ours = torch.arange(self.feature_dim, device=features.device) < self.encoder.feature_dim
        unseen = hidden.view(-1, 1, 1) & ours  # (B, 1, D)
        return ImageFeatures(features.annotations.masked_fill(unseen, 0.0), features.tags)


def build_model(config: ModelConfig) -> CaptioningModel:
    """Build the architecture that `config` describes, with random weights.

    Raises ConfigError where it contradicts itself.
    """
    encoder = build_encoder(config.encoder, config.encoder_pixels or config.preprocess.size_pixels)
    tagger = None if config.tagger is None else Tagger(config.tagger, encoder.grid)
    check_tags(config)
    feature_dim = encoder.feature_dim + (0 if tagger is None else tagger.feature_dim)
    decoder = config.decoder.build(config.vocab_size, feature_dim)
    return CaptioningModel(encoder, decoder, tagger)


def sees_more(model: CaptioningModel, source: CaptioningModel) -> bool:
    """Tell whether the model's encoder and tagger have all tensors of the source's and more.

    They then give the source's features (`columns_of_source`) and others.
    """
    own, other = _eyes(model), _eyes(source)
    return other.items() < own.items() and source.feature_dim < model.feature_dim


def columns_of_source(model: CaptioningModel, source: CaptioningModel) -> list[int]:
    """Give where the features of a source stand among those of a model that sees as much or more.

    One more network of the encoder gives its features between those of the first and the tagger's.
    """
    columns = list(range(source.encoder.feature_dim))
    if source.tagger is not None:
        first = model.encoder.feature_dim
        columns += range(first, first + source.tagger.feature_dim)
    return columns


def overlap(model: CaptioningModel, source: CaptioningModel) -> dict[str, Tensor]:
    """Give the source's tensors that fit into the model, by name: those of the same shape.

    Where the model sees more than the source, a tensor also fits that lacks only the columns of the
    additional features.
    """
    widths = None
    if sees_more(model, source):
        widths = (source.feature_dim, model.feature_dim)

    def fits(own: torch.Size, other: torch.Size) -> bool:
        return own == other or (own[:-1] == other[:-1] and (other[-1], own[-1]) == widths)

    own_shapes = _shapes(model)
    return {
        name: tensor
        for name, tensor in source.state_dict().items()
        if name in own_shapes and fits(own_shapes[name], tensor.shape)
    }


def _eyes(model: CaptioningModel) -> dict[str, torch.Size]:
    """Give the shapes of all that is not the decoder's."""
    shapes = _shapes(model)
    return {name: shape for name, shape in shapes.items() if not name.startswith("decoder.")}


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
