"""Bundles of tiny models that have an encoder and words in common."""

from io import BytesIO
from pathlib import Path

from PIL import Image
from safetensors.torch import load_file, save_file

from models.bundles.checkpoint import save_checkpoint
from models.bundles.tensors import save_shared
from models.captioner import NetworkCaptioner
from models.network import CaptioningModel
from models.preprocessing import DecodeLimits
from models.tokenizer import Vocabulary
from tests.unit.toys import WORDS, tiny_config, tiny_model

WORD_TENSORS = ("decoder.embedding.weight", "decoder.output.weight", "decoder.output.bias")


def is_encoder(name: str) -> bool:
    return name.startswith("encoder.")


def sibling(name: str, **fields: object) -> CaptioningModel:
    """A model with the toy's encoder and words, and a decoder of its own."""
    model = tiny_model(tiny_config(name, **fields))
    other = tiny_model(tiny_config(name))
    common = {
        key: t for key, t in other.state_dict().items() if is_encoder(key) or key in WORD_TENSORS
    }
    model.load_state_dict(common, strict=False)
    return model


def save_sibling(
    weights: Path, name: str, shared: tuple[str, ...] = ("encoder", "words"), **fields: object
) -> Path:
    save_checkpoint(
        weights / name,
        sibling(name, **fields),
        tiny_config(name, **fields),
        Vocabulary(WORDS),
        {"n": 1},
        shared,
    )
    return weights / name


def save_siblings(weights: Path) -> Path:
    """Two bundles, `one` and `two`, with a shared encoder and shared words; their LSTMs differ in
    size."""
    tensors = tiny_model(tiny_config()).state_dict()
    save_shared(
        weights, "encoder", {name: tensor for name, tensor in tensors.items() if is_encoder(name)}
    )
    save_shared(weights, "words", {name: tensors[name] for name in WORD_TENSORS})
    save_sibling(weights, "one")
    save_sibling(weights, "two", attention_dim=9)
    return weights


def change_shared(weights: Path, name: str) -> None:
    path = weights / "shared" / f"{name}.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, path)


def caption_text(captioner: NetworkCaptioner) -> str:
    file = BytesIO()
    Image.radial_gradient("L").convert("RGB").save(file, "PNG")
    image = captioner.prepare(file.getvalue(), DecodeLimits())
    return captioner.caption([image], captioner.info.config.decoding)[0].hypotheses[0].text
