"""The tensors of a model by its configuration: names and shapes, without building it.

Of models whose encoder is in `grids.GRIDS` and whose decoder attends. What the encoders and the
tagger have does not depend on a configuration, and stands in shapes.tsv: part, name, shape.
"""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from models.architectures.grids import GRIDS, sight_of
from models.array_features import TAG_CLASSES, WORDS_A_CLASS
from models.config import ModelConfig
from models.decoders.config import AttentionConfig

__all__ = ["Shapes", "has_shapes", "is_whole", "tensor_shapes"]

Shapes = dict[str, tuple[int, ...]]

_ATTENTIONS = ("additive", "dot-product", "cosine", "hard")
# box, score, area, and how many of its class there are
_PLACE_FEATURES = 7


def tensor_shapes(config: ModelConfig) -> Shapes | None:
    """Give the shape of every tensor of a model, by its name in a bundle; None for others.

    Raises ConfigError where the configuration contradicts itself.
    """
    sight = sight_of(config)
    if sight is None or not has_shapes(config):
        return None
    assert isinstance(config.decoder, AttentionConfig)
    shapes = dict(_fixed(config.encoder))
    if config.tagger is not None:
        shapes |= _fixed("tagger")
    of_decoder = _decoder(config.decoder, config.vocab_size, sight.feature_dim)
    return shapes | {f"decoder.{name}": shape for name, shape in of_decoder}


def has_shapes(config: ModelConfig) -> bool:
    """Tell whether `tensor_shapes` knows a model of that configuration."""
    decoder = config.decoder
    attends = isinstance(decoder, AttentionConfig) and decoder.attention in _ATTENTIONS
    return attends and config.encoder in GRIDS


def is_whole(name: str) -> bool:
    """Tell whether a tensor holds whole numbers, which are looked up; all others are parameters."""
    return name == "decoder.tags.class_words"


@cache
def _fixed(part: str) -> Shapes:
    """Read what shapes.tsv has of an encoder or of the tagger."""
    text = files(__package__).joinpath("shapes.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return {
        name: tuple(int(size) for size in shape.split()) for own, name, shape in rows if own == part
    }


Named = tuple[str, tuple[int, ...]]


def _decoder(config: AttentionConfig, vocab_size: int, encoder_dim: int) -> Iterator[Named]:
    """Give the tensors of `models.decoders.show_attend_tell.AttentionDecoder`."""
    embed, hidden = config.embed_dim, config.decoder_dim
    yield from _norm("normalise", encoder_dim)
    yield "embedding.weight", (vocab_size, embed)
    yield from _linear("output", embed, vocab_size)
    for name, shape in _attention(config, encoder_dim):
        yield f"attention.{name}", shape
    yield from _linear("init_hidden", encoder_dim, hidden)
    yield from _linear("init_cell", encoder_dim, hidden)
    yield from _linear("gate", hidden, 1)
    yield from _linear("lstm_word", embed, 4 * hidden)
    yield from _linear("lstm_context", encoder_dim, 4 * hidden, bias=False)
    yield from _linear("lstm_hidden", hidden, 4 * hidden, bias=False)
    yield from _linear("readout_hidden", hidden, embed)
    yield from _linear("readout_context", encoder_dim, embed, bias=False)
    if config.tags:
        yield from _linear("lstm_tags", embed, 4 * hidden, bias=False)
        yield from _linear("readout_tags", embed, embed, bias=False)
        for name, shape in _tags(config, encoder_dim):
            yield f"tags.{name}", shape


def _attention(config: AttentionConfig, encoder_dim: int) -> Iterator[Named]:
    """Give the tensors of `models.decoders.attention`, by kind."""
    kind, units = config.attention, config.attention_dim
    scores_by_network = kind in ("additive", "hard")
    yield from _linear("key", encoder_dim, units, bias=kind != "dot-product")
    yield from _linear("query", config.decoder_dim, units, bias=not scores_by_network)
    if scores_by_network:
        yield from _linear("score", units, 1, bias=False)
    if kind == "dot-product":
        yield from _linear("value", encoder_dim, encoder_dim, bias=False)
    if kind == "cosine":
        yield "log_temperature", (1,)


def _tags(config: AttentionConfig, encoder_dim: int) -> Iterator[Named]:
    """Give the tensors of `models.decoders.tag_attention.TagAttention`."""
    embed, hidden, units = config.embed_dim, config.decoder_dim, config.attention_dim
    yield "class_words", (TAG_CLASSES, WORDS_A_CLASS)
    yield "gain", (TAG_CLASSES, WORDS_A_CLASS)
    yield from _linear("word", embed, embed)
    yield from _linear("place", _PLACE_FEATURES, embed, bias=False)
    yield from _linear("seen", encoder_dim, embed, bias=False)
    yield from _norm("normalise", embed)
    yield from _linear("key", embed, units)
    yield from _linear("query", hidden, units, bias=False)
    yield from _linear("score", units, 1, bias=False)
    yield from _linear("none", hidden, 1)


def _linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> Iterator[Named]:
    yield f"{name}.weight", (outputs, inputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def _norm(name: str, size: int) -> Iterator[Named]:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)
