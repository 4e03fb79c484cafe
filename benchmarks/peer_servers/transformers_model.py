"""Hugging Face transformers' vision encoder-decoder, as large as a shipped model, random weights.

What it says means nothing; what it costs does. No weights are downloaded: the model is built from
its configuration, a ViT and a GPT-2 with cross-attention, each with as many layers as bring it
nearest to the number of parameters of the shipped encoder and decoder. Each caption has a given
number of tokens, as a random model never ends a sentence.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, VisionEncoderDecoderModel, ViTConfig, ViTModel

from benchmarks.peer_servers.layers import nearest_layers
from benchmarks.reports import ROOT
from models.loading import describe_captioner

__all__ = ["TransformersCaptioner"]

_IMAGE_PIXELS = 224
_ENCODER_WIDTH, _ENCODER_HEADS = 384, 6
_DECODER_WIDTH, _DECODER_HEADS = 320, 5
_BOS, _EOS, _PAD = 1, 2, 0


class TransformersCaptioner:
    """Captions files, in meaningless words."""

    def __init__(self, model: str, beam_size: int, tokens: int) -> None:
        """Build it as large as bundle `model`; `tokens` is the length of every caption."""
        info = describe_captioner(ROOT / "weights", model)
        encoder = _fitted(_encoder, info.parameters - info.decoder_parameters)
        vocab_size = info.config.vocab_size
        decoder = _fitted(
            lambda layers: _decoder(layers, vocab_size, tokens + 1), info.decoder_parameters
        )
        self._network: Any = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder).eval()
        self._options = {
            "num_beams": beam_size,
            "min_new_tokens": tokens,
            "max_new_tokens": tokens,
            "decoder_start_token_id": _BOS,
            "eos_token_id": _EOS,
            "pad_token_id": _PAD,
        }

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(each.numel() for each in self._network.parameters())

    @torch.inference_mode()
    def caption(self, files: Sequence[bytes]) -> list[str]:
        """Caption image files together, in order: the ids of the words."""
        pixels = torch.stack([_prepare(data) for data in files])
        found = self._network.generate(pixel_values=pixels, **self._options)
        return [" ".join(map(str, row)) for row in found.tolist()]


def _fitted(build: Any, parameters: int) -> Any:
    """Build a network with as many layers as fit a number of parameters."""
    one, two = (sum(each.numel() for each in build(layers).parameters()) for layers in (1, 2))
    layer = two - one
    return build(nearest_layers(parameters, one - layer, layer))


def _encoder(layers: int) -> Any:
    return ViTModel(
        ViTConfig(
            hidden_size=_ENCODER_WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=_ENCODER_HEADS,
            intermediate_size=4 * _ENCODER_WIDTH,
            image_size=_IMAGE_PIXELS,
        ),
        add_pooling_layer=False,
    )


def _decoder(layers: int, vocab_size: int, positions: int) -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocab_size,
            n_positions=positions,
            n_embd=_DECODER_WIDTH,
            n_layer=layers,
            n_head=_DECODER_HEADS,
            add_cross_attention=True,
            bos_token_id=_BOS,
            eos_token_id=_EOS,
            pad_token_id=_PAD,
        )
    )


def _prepare(data: bytes) -> Tensor:
    """Decode a file to normalized pixels (3, S, S) float32."""
    image = Image.open(BytesIO(data)).convert("RGB")
    image = image.resize((_IMAGE_PIXELS, _IMAGE_PIXELS), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1.0
