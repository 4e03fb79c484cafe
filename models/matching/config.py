"""What describes a matching model: its kind, sizes and eyes, as values. Knows no torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.config import NAME_PATTERN

__all__ = [
    "MatcherConfig",
    "MatchingConfig",
    "NceConfig",
    "VilbertConfig",
    "VlBertConfig",
]

_Size = Annotated[int, Field(ge=1, le=4096)]
_Layers = Annotated[int, Field(ge=0, le=24)]


class _MatcherConfig(BaseModel):
    """Base class of all matchers' configurations.

    width: E of every layer; a multiple of `heads`. embed_dim: dimensions of a word's embedding.
    blocks: the grid is read as blocks x blocks regions, beside the whole picture and its tags.
    dropout: the share of values that training sets to zero.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: _Size = 256
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    embed_dim: _Size = 320
    blocks: Annotated[int, Field(ge=1, le=14)] = 4
    max_words: Annotated[int, Field(ge=1, le=100, description="longer sentences are cut")] = 24
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1


class NceConfig(_MatcherConfig):
    """Two encoders into one space; see `models.matching.nce`."""

    kind: Literal["nce"] = "nce"
    sentence: Literal["recurrent", "transformer"] = "recurrent"
    word_layers: Annotated[int, Field(ge=1, le=24)] = 1
    region_layers: _Layers = 1
    joint_dim: Annotated[int, Field(ge=1, le=4096, description="J, of the common space")] = 512
    blocks: Annotated[int, Field(ge=1, le=14)] = 5


class VilbertConfig(_MatcherConfig):
    """Two streams with co-attention; see `models.matching.vilbert`.

    word_layers, region_layers: of each stream alone, before `co_layers` together.
    """

    kind: Literal["vilbert"] = "vilbert"
    word_layers: _Layers = 2
    region_layers: _Layers = 1
    co_layers: Annotated[int, Field(ge=1, le=24)] = 2


class VlBertConfig(_MatcherConfig):
    """One stream of words and regions; see `models.matching.vl_bert`."""

    kind: Literal["vl-bert"] = "vl-bert"
    layers: Annotated[int, Field(ge=1, le=24)] = 3


MatcherConfig = Annotated[
    NceConfig | VilbertConfig | VlBertConfig,
    Field(discriminator="kind"),
]


class MatchingConfig(BaseModel):
    """One matching model: the JSON half of its bundle.

    eyes: the captioner's bundle through whose encoder and tagger it sees.
    eyes_digest: SHA-256 of those weights; features of other eyes mean nothing to it.
    feature_dim: D, the features of a cell that these eyes give.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    eyes: Annotated[str, Field(pattern=NAME_PATTERN)]
    eyes_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    feature_dim: Annotated[int, Field(ge=1)]
    vocab_size: Annotated[int, Field(ge=5)]
    matcher: MatcherConfig
