"""A captioner of random weights with a tagger, whose decoder looks at tags as often as at cells."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import skimage.data
import torch
from PIL import Image

from models.config import ModelConfig, TaggerConfig
from models.decoders.config import AttentionConfig
from models.encoders import default_preprocess
from models.network import CaptioningModel
from models.tokenizer import Vocabulary
from tests.unit.toys import WORDS, tiny_model
from training.initialization import tell_words

KNOWN = (*WORDS, "cup", "coffee", "glass")
SIDE = 416
_TAGS = AttentionConfig(embed_dim=8, decoder_dim=12, attention_dim=6, tags=True)


def seeing_config(name: str = "eyes", **fields: Any) -> ModelConfig:
    """A captioner that knows `KNOWN`, sees at two sizes, and has a tagger unless fields say no."""
    described: dict[str, Any] = {
        "name": name,
        "encoder": "tiny",
        "encoder_pixels": 56,
        "tagger": TaggerConfig(),
        "decoder": _TAGS,
        "vocab_size": len(Vocabulary(KNOWN)),
        "preprocess": default_preprocess("tiny", 56).model_copy(update={"size_pixels": SIDE}),
    }
    return ModelConfig.model_validate(described | fields)


def seeing_model(
    config: ModelConfig, published: dict[str, torch.Tensor] | None = None
) -> CaptioningModel:
    """Fixed random weights, but for the tagger's where `published` gives them."""
    model = tiny_model(config)
    if model.tagger is not None and published is not None:
        model.tagger.load_state_dict(published)
    tell_words(model, Vocabulary(KNOWN))
    torch.nn.init.zeros_(model.get_parameter("decoder.tags.none.bias"))
    return model


def photo_file(name: str, size: tuple[int, int] | None = None) -> bytes:
    """A free photo of scikit-image as a PNG file, resized if asked."""
    load: Callable[[], npt.NDArray[np.uint8]] = getattr(skimage.data, name)
    image = Image.fromarray(load())
    file = io.BytesIO()
    (image if size is None else image.resize(size)).save(file, "PNG")
    return file.getvalue()
