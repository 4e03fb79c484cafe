"""What the server answers with, typed. Fields that a later server adds are passed over; knows no
HTTP."""

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = [
    "AttentionResult",
    "CaptionAttention",
    "CaptionResult",
    "CaptionScore",
    "FoundConcept",
    "FoundObject",
    "Grid",
    "ImageDescription",
    "LookedAt",
    "ModelDescription",
    "ModelList",
    "ModelName",
    "Runtime",
    "Timing",
    "WordAttention",
    "WordScore",
]


class _Result(BaseModel):
    """Base class: read only, and what is not known is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class WordScore(_Result):
    """One word of a caption.

    probability: the model's own, given the picture and the words before; 0 to 1.
    confidence: the probability that a person describing the photo uses the word; 0 to 1.
    """

    word: str
    probability: float
    confidence: float


class LookedAt(_Result):
    """What a word's map is made of: shares that sum to 1.

    name: the object or concept with the greatest share; None without any.
    """

    cells: float
    objects: float
    concepts: float
    name: str | None = None


class WordAttention(WordScore):
    """One word of a caption, and where the model looked while it chose it.

    alpha: rows by columns, top left first; not negative, sums to 1.
    beta: how much the picture counted for this word; 0 to 1.
    looked_at: None where the model looks for no objects and concepts.
    """

    alpha: tuple[tuple[float, ...], ...]
    beta: float
    looked_at: LookedAt | None = None


class CaptionScore(_Result):
    """One candidate caption.

    logprob: natural logarithm of the whole caption's probability, its end included.
    confidence: the share of its content words that a person is expected to use; 0 to 1.
    """

    text: str
    logprob: float
    confidence: float
    words: tuple[WordScore, ...]


class CaptionAttention(_Result):
    """One candidate caption, each word with its map; else as `CaptionScore`."""

    text: str
    logprob: float
    confidence: float
    words: tuple[WordAttention, ...]


class ImageDescription(_Result):
    """The picture that was captioned: its size in pixels as a person sees it, and its format."""

    width: int
    height: int
    format: str


class ModelName(_Result):
    """The model that wrote the caption; digest: SHA-256 of its weights, in hex."""

    name: str
    digest: str


class Timing(_Result):
    """Where the server's time went, in seconds."""

    decode_seconds: float
    queue_seconds: float
    compute_seconds: float


class Grid(_Result):
    """Where the cells of every `alpha` lie on the picture.

    box: left, top, right, bottom, in pixels of the picture as a person sees it.
    """

    rows: int
    columns: int
    box: tuple[float, float, float, float]


class FoundObject(_Result):
    """An object that was detected in the picture.

    score: how sure the detector is; 0 to 1.
    box: left, top, right, bottom, in pixels of the picture as a person sees it.
    """

    name: str
    score: float
    box: tuple[float, float, float, float]


class FoundConcept(_Result):
    """What the picture as a whole was taken for; score: how sure the classifier is, 0 to 1."""

    name: str
    score: float


class _Answer(_Result):
    caption: str
    calibrated: bool
    image: ImageDescription
    model: ModelName
    timing: Timing
    objects: tuple[FoundObject, ...] | None = None
    concepts: tuple[FoundConcept, ...] | None = None
    warnings: tuple[str, ...] = ()


class CaptionResult(_Answer):
    """What `caption` gives.

    caption: the best one; captions: `num_captions` of them, best first.
    calibrated: whether confidences were fitted to what people said of photos.
    objects, concepts: with `include="objects"`, where the model looks for them.
    warnings: what is missing of the picture, in sentences.
    """

    captions: tuple[CaptionScore, ...]


class AttentionResult(_Answer):
    """What `attention` gives: the words of the best caption in order, each with its map.

    captions: all of them, where several were asked for. maps: what `alpha` is in this model, in
    words.
    """

    words: tuple[WordAttention, ...]
    captions: tuple[CaptionAttention, ...] | None = None
    grid: Grid
    maps: str


class Runtime(_Result):
    """What a loaded model computes with."""

    name: str
    precision: str
    threads: int


class ModelDescription(_Result):
    """A model of the server; where it has a `problem`, nothing else is known of it.

    default: whether it answers where a call names no model.
    loaded: whether it is in memory; if not, its first call waits.
    """

    name: str
    default: bool
    loaded: bool
    problem: str | None = None
    digest: str | None = None
    parameters: int | None = None
    runtime: Runtime | None = None
    config: dict[str, Any] | None = None
    calibrated: bool | None = None
    metrics: dict[str, Any] | None = None


class ModelList(_Result):
    """Every model of the server, by name."""

    models: tuple[ModelDescription, ...]
