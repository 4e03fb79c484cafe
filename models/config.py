"""What describes a model: architecture, preprocessing and decoding defaults, as validated values.

They are the JSON half of a bundle (`config.json`). Knows no torch, no files and no web.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from models.calibration import CalibrationConfig
from models.decoders.config import AttentionConfig, DecoderConfig, MapKind, nest_decoder

__all__ = [
    "NAME_PATTERN",
    "DecodingOptions",
    "MapKind",
    "ModelConfig",
    "PreprocessConfig",
    "TaggerConfig",
    "migrate_config",
]

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,63}$"
"""What a model may be called, and a file that models share."""

Channels = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
_Spread = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Frozen(BaseModel):
    """Immutable, strict about unknown fields: a misspelt key is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PreprocessConfig(_Frozen):
    """How an image becomes the encoder's input; the only home of size, mean and std.

    The whole image is resized to `size_pixels` x `size_pixels` (squeezed, never cropped), then
    x = (rgb - mean) / std per channel, with rgb, mean and std on the 0..255 scale.
    """

    size_pixels: Annotated[int, Field(ge=16, le=1024)]
    mean: Channels
    std: tuple[_Spread, _Spread, _Spread]
    resample: Literal["bilinear", "bicubic"] = "bicubic"


def _is_false(value: object) -> bool:
    """Tell whether an option is off: documents from before it was there say nothing of it."""
    return value is False


class DecodingOptions(_Frozen):
    """How a caption is searched for.

    `length_penalty` p ranks finished captions by sum_logprob / length ** p (0: plain sum, 1: mean
    per token). `max_length` counts words, without the end token. `num_captions` may not exceed
    `beam_size`. `avoid_echoes` forbids a noun phrase that was said before, behind "and" or a
    preposition ("a dog and a dog"); it belongs to the model, and requests do not set it.
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
    avoid_echoes: Annotated[
        bool,
        Field(
            description="no noun phrase twice, joined by 'and' or a preposition",
            exclude_if=_is_false,
        ),
    ] = False


class TaggerConfig(_Frozen):
    """Which objects and concepts of an image become tags (`models.tagging`).

    min_score: of a detection. max_overlap: intersection over union, above which two boxes of one
    class are one object. min_probability: of a concept.
    """

    max_objects: Annotated[int, Field(ge=0, le=100)] = 10
    min_score: Annotated[float, Field(gt=0, le=1)] = 0.25
    max_overlap: Annotated[float, Field(gt=0, le=1)] = 0.45
    max_concepts: Annotated[int, Field(ge=0, le=100)] = 5
    min_probability: Annotated[float, Field(gt=0, le=1)] = 0.05


class ModelConfig(_Frozen):
    """The architecture of one captioner, its preprocessing, and how it decodes by default."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    encoder: str
    encoder_pixels: Annotated[
        int | None,
        Field(ge=16, le=1024, description="the side of what the encoder sees, if not the whole"),
    ] = None
    decoder: DecoderConfig = AttentionConfig()
    tagger: Annotated[
        TaggerConfig | None, Field(description="the objects and concepts that the decoder is given")
    ] = None
    vocab_size: Annotated[int, Field(ge=5)]
    preprocess: PreprocessConfig
    decoding: DecodingOptions = DecodingOptions()
    calibration: Annotated[
        CalibrationConfig | None, Field(description="from probabilities to confidences")
    ] = None

    def describe(self) -> dict[str, Any]:
        """Describe all but the calibration, on one level, as `GET /models/{name}` answers.

        What only newer models have follows what every model shows; a switch that is off is not
        told.
        """
        own = self.decoder.model_dump(mode="json", exclude={"kind"})
        flat = _ABSENT | own
        others = {
            name: value
            for name, value in own.items()
            if name not in _FLAT_FIELDS and value is not False
        }
        eyes = self.model_dump(mode="json", include={"encoder_pixels", "tagger"}, exclude_none=True)
        return {
            "name": self.name,
            "encoder": self.encoder,
            "decoder": self.decoder.kind,
            "attention": flat["attention"],
            "vocab_size": self.vocab_size,
            "embed_dim": flat["embed_dim"],
            "decoder_dim": flat["decoder_dim"],
            "attention_dim": flat["attention_dim"],
            "layers": flat["layers"],
            "heads": flat["heads"],
            "dropout": flat["dropout"],
            "preprocess": self.preprocess.model_dump(mode="json"),
            "decoding": self.decoding.model_dump(mode="json"),
            **others,
            **eyes,
        }


# What the flat description says of a decoder that lacks a field: what every shipped model said
# before decoders had fields of their own.
_ABSENT: dict[str, Any] = {
    "attention": "additive",
    "decoder_dim": 512,
    "attention_dim": 128,
    "layers": 3,
    "heads": 8,
}
_FLAT_FIELDS = ("embed_dim", "dropout", *_ABSENT)


def migrate_config(document: dict[str, Any]) -> dict[str, Any]:
    """Bring the document of an older config.json to the form that `ModelConfig` validates.

    An older one has the fields of its decoder beside its own.

    Fields that the decoder of that kind never read are dropped. A document of the present form
    stays as it is.
    """
    if not isinstance(document.get("decoder", "attention"), str):
        return document
    others = {name: value for name, value in document.items() if name not in _FLAT_FIELDS}
    flat = {name: document[name] for name in _FLAT_FIELDS if name in document}
    return others | {"decoder": nest_decoder(document.get("decoder", "attention"), flat)}
