"""What describes a decoder: its kind and sizes, as validated values. Knows no torch and no files.

To add a decoder: write the network in a file of its own, and here its configuration and one more
name in `DecoderConfig`.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from models.decoders.base import CaptionDecoder

__all__ = [
    "DECODER_KINDS",
    "AttentionConfig",
    "AttentionKind",
    "DecoderConfig",
    "LRCNConfig",
    "MapKind",
    "NICConfig",
    "TransformerConfig",
    "nest_decoder",
]

AttentionKind = Literal["additive", "dot-product", "cosine", "hard"]
_Size = Annotated[int, Field(ge=1)]


class MapKind(StrEnum):
    """What the maps of a decoder are."""

    SOFT = "soft"
    HARD = "hard"
    CROSS_ATTENTION = "cross-attention"
    UNIFORM = "uniform"


class _DecoderConfig(BaseModel):
    """Base class of all decoder configurations.

    embed_dim: dimensions of a word's embedding.
    dropout: the share of values that training sets to zero; each decoder says where.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embed_dim: _Size = 320
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5

    @property
    def maps(self) -> MapKind:
        """What the maps of the decoder are."""
        raise NotImplementedError

    @property
    def has_gate(self) -> bool:
        """Whether the decoder learns beta, a gate of the context; if not, beta is constant."""
        return False

    def build(self, vocab_size: int, encoder_dim: int) -> "CaptionDecoder":
        """Build the decoder with random weights, for annotations of `encoder_dim` features.

        Imports torch. Raises ConfigError where the sizes contradict each other.
        """
        raise NotImplementedError


class AttentionConfig(_DecoderConfig):
    """An LSTM that attends to the image before each word (Xu et al. 2015, section 3.1).

    attention: how a location is scored. additive: an MLP (Xu et al. 2015); dot-product: scaled, of
        query and key, the context made of values (Vaswani et al. 2017); cosine: of query and key at
        a learnt temperature; hard: scored as additive, one location at a time (Xu et al. 2015,
        section 4.1).
    decoder_dim: units of the LSTM. attention_dim: units of the attention.
    tags: whether it attends to the image's objects and concepts too.
    """

    kind: Literal["attention"] = "attention"
    attention: AttentionKind = "additive"
    decoder_dim: _Size = 512
    attention_dim: _Size = 256
    tags: bool = False

    @property
    def maps(self) -> MapKind:
        """Hard for hard attention, soft for every other."""
        return MapKind.HARD if self.attention == "hard" else MapKind.SOFT

    @property
    def has_gate(self) -> bool:
        """True (section 4.2.1)."""
        return True

    def build(self, vocab_size: int, encoder_dim: int) -> "CaptionDecoder":
        """Build an AttentionDecoder."""
        from models.decoders.show_attend_tell import AttentionDecoder

        return AttentionDecoder(self, vocab_size, encoder_dim)


class NICConfig(_DecoderConfig):
    """The image as one vector, before the first word (Vinyals et al. 2015).

    decoder_dim: units of the LSTM.
    """

    kind: Literal["nic"] = "nic"
    decoder_dim: _Size = 512

    @property
    def maps(self) -> MapKind:
        """Uniform: the decoder knows no locations."""
        return MapKind.UNIFORM

    def build(self, vocab_size: int, encoder_dim: int) -> "CaptionDecoder":
        """Build a NICDecoder."""
        from models.decoders.show_and_tell import NICDecoder

        return NICDecoder(self, vocab_size, encoder_dim)


class LRCNConfig(_DecoderConfig):
    """The image as one vector at every step (Donahue et al. 2015).

    kind: where the vector enters. lrcn-unfactored: with the word (LRCN 1u); lrcn-factored: between
        two LSTM layers (LRCN 2f).
    decoder_dim: units of each LSTM layer.
    """

    kind: Literal["lrcn-unfactored", "lrcn-factored"]
    decoder_dim: _Size = 512

    @property
    def maps(self) -> MapKind:
        """Uniform: the decoder knows no locations."""
        return MapKind.UNIFORM

    def build(self, vocab_size: int, encoder_dim: int) -> "CaptionDecoder":
        """Build an LRCNDecoder."""
        from models.decoders.lrcn import LRCNDecoder

        return LRCNDecoder(self, vocab_size, encoder_dim)


class TransformerConfig(_DecoderConfig):
    """Masked self-attention and cross-attention (Vaswani et al. 2017).

    embed_dim: width of every layer. decoder_dim: units of the feed-forward part of a layer.
    """

    kind: Literal["transformer"] = "transformer"
    decoder_dim: _Size = 512
    layers: Annotated[int, Field(ge=1, le=24)] = 3
    heads: Annotated[int, Field(ge=1, le=64)] = 8

    @property
    def maps(self) -> MapKind:
        """Cross-attention of the last layer."""
        return MapKind.CROSS_ATTENTION

    def build(self, vocab_size: int, encoder_dim: int) -> "CaptionDecoder":
        """Build a TransformerDecoder."""
        from models.decoders.transformer import TransformerDecoder

        return TransformerDecoder(self, vocab_size, encoder_dim)


# The one table of decoders.
DecoderConfig = Annotated[
    AttentionConfig | NICConfig | LRCNConfig | TransformerConfig,
    Field(discriminator="kind"),
]


def _by_kind() -> dict[str, type[_DecoderConfig]]:
    """Give the configuration of every kind, in the order of the table."""
    union, _ = get_args(DecoderConfig)
    found: dict[str, type[_DecoderConfig]] = {}
    for config in get_args(union):
        for kind in get_args(config.model_fields["kind"].annotation):
            found[kind] = config
    return found


_BY_KIND = _by_kind()
DECODER_KINDS = tuple(_BY_KIND)
"""The kinds of decoders, by the names that experiments and config.json use."""


def nest_decoder(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Choose from flat `fields` what the decoder of that kind has: the document of its config.

    A kind that does not exist keeps no field; validation refuses it.
    """
    config = _BY_KIND.get(kind)
    own = set() if config is None else set(config.model_fields)
    return {"kind": kind} | {name: fields[name] for name in fields if name in own}
