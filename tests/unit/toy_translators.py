"""Toy translators: a few lines of two languages, subwords learnt from them, small networks."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.translation.checkpoint import save_translation
from models.translation.config import (
    AttentionArchitecture,
    RecurrentArchitecture,
    TransformerArchitecture,
    TranslationConfig,
    TranslationOptions,
)
from models.translation.network import TranslationModel, build_translation_model
from models.translation.subwords import Subwords, as_captioned, learn_subwords
from models.translation.torch_runtime import TorchTranslationRuntime
from models.translation.translator import Translator

COLORS = {"red": "rote", "blue": "blaue", "green": "grüne", "old": "alte"}
THINGS = {"cat": "Katze", "flower": "Blume", "lamp": "Lampe", "bag": "Tasche"}
DEEDS = {"sleeps": "schläft", "lies here": "liegt hier", "falls": "fällt"}
PAIRS = [
    (f"A {color} {thing} {deed}.", f"Eine {farbe} {ding} {tat}.")
    for color, farbe in COLORS.items()
    for thing, ding in THINGS.items()
    for deed, tat in DEEDS.items()
]
SIZE = 48

ARCHITECTURES: dict[str, Any] = {
    "seq2seq": RecurrentArchitecture(embed_dim=16, hidden_dim=24),
    "additive": AttentionArchitecture(
        embed_dim=16, encoder_dim=20, decoder_dim=24, attention_dim=12
    ),
    "cosine": AttentionArchitecture(
        attention="cosine", embed_dim=16, encoder_dim=20, decoder_dim=24, attention_dim=12
    ),
    "dot-product": AttentionArchitecture(
        attention="dot-product", embed_dim=16, encoder_dim=20, decoder_dim=24, attention_dim=12
    ),
    "transformer": TransformerArchitecture(
        embed_dim=16, feedforward_dim=24, encoder_layers=2, decoder_layers=2, heads=2
    ),
}


@cache
def toy_subwords(size: int = SIZE) -> Subwords:
    lines = [line for pair in PAIRS for line in (*pair, as_captioned(pair[0]))]
    return learn_subwords(lines, size)


def toy_config(kind: str = "additive", **fields: Any) -> TranslationConfig:
    subwords = toy_subwords()
    defaults: dict[str, Any] = {
        "name": "toy",
        "target_language": "de",
        "architecture": ARCHITECTURES[kind],
        "source_vocab_size": len(subwords),
        "target_vocab_size": len(subwords),
        "decoding": TranslationOptions(beam_size=3, max_length=12),
    }
    return TranslationConfig(**(defaults | fields))


def toy_network(kind: str = "additive", **fields: Any) -> TranslationModel:
    """A network with weights large enough that inputs matter."""
    torch.manual_seed(0)
    model = build_translation_model(toy_config(kind, **fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.5)
    return model


def toy_translator(kind: str = "additive") -> Translator:
    subwords = toy_subwords()
    runtime = TorchTranslationRuntime(toy_network(kind))
    return Translator(runtime, toy_config(kind), subwords, subwords)


def save_toy_translator(weights_folder: Path, kind: str = "additive", **fields: Any) -> Path:
    """Write a toy's bundle below `weights_folder`; give its folder."""
    config = toy_config(kind, **fields)
    folder = weights_folder / "languages" / config.name
    model = toy_network(kind, **fields)
    save_translation(
        folder, model.state_dict(), config, toy_subwords(), toy_subwords(), {"dev": 0.5}
    )
    return folder
