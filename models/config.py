"""What describes a model: architecture, preprocessing and decoding defaults, as validated values.

These are the JSON half of a checkpoint (`config.json`). This file knows nothing of tensors, files
or the web.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from models.calibration import CalibrationConfig

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

    `length_penalty` p ranks finished captions by sum_logprob / length ** p (0: plain sum, 1: mean
    per token). `max_length` counts words, without the end token. `num_captions` may not exceed
    `beam_size`.
    """

    beam_size: Annotated[
        int, Field(ge=1, le=20, description="hypotheses kept at each step; 1 is greedy")
    ] = 5
    num_captions: Annotated[
        int, Field(ge=1, le=20, description="captions returned, best first")
    ] = 1
    max_length: Annotated[int, Field(ge=1, le=50, description="words at most")] = 20
    length_penalty: Annotated[
        float, Field(ge=0.0, le=2.0, description="0 favors short captions, 1 is neutral")
    ] = 1.0


class ModelConfig(_Frozen):
    """The architecture of one captioner.

    decoder: how the sentence is written.
        attention         an LSTM that looks before each word (Xu et al. 2015, section 3.1)
        nic               the picture as one vector, before the first word (Vinyals et al. 2015)
        lrcn-unfactored   the vector at every step, with the word (Donahue et al. 2015, LRCN 1u)
        lrcn-factored     the vector at every step, between two LSTM layers (the same, LRCN 2f)
        transformer       masked self-attention and cross-attention (Vaswani et al. 2017)
    attention: how a location is scored, of the decoder of that name alone. additive: an MLP (Xu et
    al. 2015);
        dot-product: scaled, of query and key, the context made of values (Vaswani et al. 2017);
        cosine: of query and key at a learnt temperature; hard: scored as additive, one location at
        a time (Xu et al. 2015, section 4.1).
    layers, heads: of the transformer alone; `embed_dim` is its width, `decoder_dim` that of its
    feed-forward part.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    encoder: str
    decoder: Literal["attention", "nic", "lrcn-unfactored", "lrcn-factored", "transformer"] = (
        "attention"
    )
    attention: Literal["additive", "dot-product", "cosine", "hard"] = "additive"
    vocab_size: Annotated[int, Field(ge=5)]
    embed_dim: Annotated[int, Field(ge=1)] = 320
    decoder_dim: Annotated[int, Field(ge=1)] = 512
    attention_dim: Annotated[int, Field(ge=1)] = 256
    layers: Annotated[int, Field(ge=1, le=24)] = 3
    heads: Annotated[int, Field(ge=1, le=64)] = 8
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    preprocess: PreprocessConfig
    decoding: DecodingOptions = DecodingOptions()
    calibration: Annotated[
        CalibrationConfig | None, Field(description="from probabilities to confidences")
    ] = None
