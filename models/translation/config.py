"""What describes a translator: languages, architecture, decoding defaults, as validated values.

They are the JSON half of a bundle (`config.json`). Knows no torch and no files.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.config import NAME_PATTERN, DecodingOptions
from models.decoders.config import MapKind

__all__ = [
    "LANGUAGE_PATTERN",
    "ArchitectureConfig",
    "AttentionArchitecture",
    "RecurrentArchitecture",
    "TransformerArchitecture",
    "TranslationConfig",
    "TranslationOptions",
]

LANGUAGE_PATTERN = r"^[a-z]{2,3}$"
"""What a language is called: its code of ISO 639."""

_Size = Annotated[int, Field(ge=1, le=8192)]
_Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Frozen(BaseModel):
    """Immutable, strict about unknown fields: a misspelt key is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TranslationOptions(DecodingOptions):
    """How a translation is searched for; `max_length` counts subwords."""

    max_length: Annotated[int, Field(ge=1, le=200, description="subwords at most")] = 80


class _Architecture(_Frozen):
    """What every architecture has.

    embed_dim: dimensions of a subword's embedding. dropout: the share of values that training sets
    to zero; each network says where.
    """

    embed_dim: _Size = 256
    dropout: _Dropout = 0.3


class RecurrentArchitecture(_Architecture):
    """An LSTM reads the sentence into one vector, another writes from it.

    The encoder's last state is the decoder's first (Sutskever et al. 2014), and a fixed context at
    each step (Cho et al. 2014).

    hidden_dim: units of both LSTMs.
    """

    kind: Literal["seq2seq"] = "seq2seq"
    hidden_dim: _Size = 512

    @property
    def encoder_dim(self) -> int:
        """D."""
        return self.hidden_dim

    @property
    def maps(self) -> MapKind:
        """Uniform: the decoder knows no source subwords."""
        return MapKind.UNIFORM


class AttentionArchitecture(_Architecture):
    """A bidirectional LSTM reads, and one that attends before each subword writes.

    Bahdanau et al. 2015, with the decoder of Xu et al. 2015.

    attention: how a source subword is scored, as `models.decoders.config.AttentionConfig` has it.
    encoder_dim: features of the encoder, half of them from each direction.
    decoder_dim: units of the decoder's LSTM. attention_dim: units of the alignment.
    """

    kind: Literal["seq2seq-attention"] = "seq2seq-attention"
    attention: Literal["additive", "cosine", "dot-product"] = "additive"
    encoder_dim: Annotated[int, Field(ge=2, le=8192, multiple_of=2)] = 512
    decoder_dim: _Size = 512
    attention_dim: _Size = 256

    @property
    def maps(self) -> MapKind:
        """Soft."""
        return MapKind.SOFT


class TransformerArchitecture(_Architecture):
    """Self-attention reads, masked self-attention and cross-attention write (Vaswani et al. 2017).

    embed_dim: width of every layer, a multiple of `heads`. feedforward_dim: units of the
    feed-forward part of a layer.
    """

    kind: Literal["transformer"] = "transformer"
    feedforward_dim: _Size = 512
    encoder_layers: Annotated[int, Field(ge=1, le=24)] = 3
    decoder_layers: Annotated[int, Field(ge=1, le=24)] = 3
    heads: Annotated[int, Field(ge=1, le=64)] = 4

    @property
    def encoder_dim(self) -> int:
        """D, the width."""
        return self.embed_dim

    @property
    def maps(self) -> MapKind:
        """Cross-attention of the last layer."""
        return MapKind.CROSS_ATTENTION


ArchitectureConfig = Annotated[
    RecurrentArchitecture | AttentionArchitecture | TransformerArchitecture,
    Field(discriminator="kind"),
]
"""The one table of architectures."""


class TranslationConfig(_Frozen):
    """One translator.

    joint: source and target share one subword vocabulary, and so one embedding.
    tied: the target's embedding is the output layer's matrix too (Press and Wolf 2017).
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    source_language: Annotated[str, Field(pattern=LANGUAGE_PATTERN)] = "en"
    target_language: Annotated[str, Field(pattern=LANGUAGE_PATTERN)]
    architecture: ArchitectureConfig
    source_vocab_size: Annotated[int, Field(ge=5)]
    target_vocab_size: Annotated[int, Field(ge=5)]
    joint: bool = True
    tied: bool = True
    decoding: TranslationOptions = TranslationOptions()
