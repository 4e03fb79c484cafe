"""What describes a model: architecture, preprocessing and decoding defaults, as validated values.

These are the JSON half of a checkpoint (`config.json`). This file knows nothing of tensors, files or the web.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

__all__ = ["DecodingOptions", "ModelConfig", "PreprocessConfig"]

Channels = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
_Spread = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Frozen(BaseModel):
    """Immutable, strict about unknown fields: a misspelt key is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PreprocessConfig(_Frozen):
    """How a picture becomes the encoder's input; the only home of size, mean and std.

    The whole picture is resized to `size_pixels` x `size_pixels` (squeezed, never cropped), then
    x = (rgb - mean) / std per channel, with rgb, mean and std on the 0..255 scale.
    """

    size_pixels: Annotated[int, Field(ge=16, le=1024)]
    mean: Channels
    std: tuple[_Spread, _Spread, _Spread]
    resample: Literal["bilinear", "bicubic"] = "bicubic"


class DecodingOptions(_Frozen):
    """How a caption is searched for.

    `length_penalty` p ranks finished captions by sum_logprob / length ** p (0: plain sum, 1: mean per token).
    `max_length` counts words, without the end token. `num_captions` may not exceed `beam_size`.
    """

    beam_size: Annotated[int, Field(ge=1, le=20, description="hypotheses kept at each step; 1 is greedy")] = 5
    num_captions: Annotated[int, Field(ge=1, le=20, description="captions returned, best first")] = 1
    max_length: Annotated[int, Field(ge=1, le=50, description="words at most")] = 20
    length_penalty: Annotated[float, Field(ge=0.0, le=2.0, description="0 favours short captions, 1 is neutral")] = 1.0


class ModelConfig(_Frozen):
    """The architecture of one captioner (Xu et al. 2015, section 3.1, and its regularisation)."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    encoder: str
    attention: Literal["additive"] = "additive"
    vocab_size: Annotated[int, Field(ge=5)]
    embed_dim: Annotated[int, Field(ge=1)] = 320
    decoder_dim: Annotated[int, Field(ge=1)] = 512
    attention_dim: Annotated[int, Field(ge=1)] = 256
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    preprocess: PreprocessConfig
    decoding: DecodingOptions = DecodingOptions()
