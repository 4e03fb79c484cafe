"""What the service answers, as JSON: the shapes that clients may rely on, and how a caption
becomes one."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, Field

from app.engine.engine import Captioned, ModelStatus
from models.caption import Hypothesis, Word
from models.config import MapKind

__all__ = [
    "MAPS",
    "AttentionResponse",
    "CaptionResponse",
    "Health",
    "ModelDescription",
    "ModelList",
    "Problem",
    "WrongOption",
]

_ALPHA_DIGITS = 7
_DIGITS = 6
_PROBLEM = (
    "Its files are missing or damaged, or make no model that works; the operator finds the "
    "reason in the service's log."
)

MAPS = {
    MapKind.SOFT: "soft attention, each cell's share in what the model saw as it chose the word",
    MapKind.HARD: "hard attention, all on the one cell that the model saw as it chose the word",
    MapKind.CROSS_ATTENTION: "the cross-attention of the last layer, averaged over its heads",
    MapKind.UNIFORM: "even, as the model sees the picture as one vector",
}

Fraction = Annotated[float, Field(ge=0, le=1)]
Calibrated = Annotated[
    bool, Field(description="whether confidences were fitted to what people said of photos")
]


class WordScore(BaseModel):
    """One word of a caption."""

    word: str
    probability: Annotated[
        Fraction,
        Field(
            description="the model's own: of this word, given the picture and the words before it"
        ),
    ]
    confidence: Annotated[
        Fraction,
        Field(
            description="the probability that a person describing this photo uses this word; "
            "`probability` where "
            "`calibrated` is false"
        ),
    ]

    @classmethod
    def of(cls, word: Word) -> Self:
        """The word without its map."""
        return cls(
            word=word.text,
            probability=round(word.probability, _DIGITS),
            confidence=round(word.confidence, _DIGITS),
        )


class WordAttention(WordScore):
    """One word of a caption, and where the model looked while it chose it."""

    alpha: Annotated[
        list[list[float]],
        Field(description="the map: rows by columns, top left first, non-negative, sums to 1"),
    ]
    beta: Annotated[
        Fraction,
        Field(
            description="how much the picture counted for this word: the context's gate; without a "
            "gate, always 1 in "
            "LRCN and the Transformer, and always 0 in NIC, which is given the picture once, "
            "before the first word"
        ),
    ]

    @classmethod
    def of(cls, word: Word) -> Self:
        """The word with its map."""
        alpha = [[round(cell, _ALPHA_DIGITS) for cell in row] for row in word.alpha.tolist()]
        return cls(**WordScore.of(word).model_dump(), alpha=alpha, beta=round(word.beta, _DIGITS))


class CaptionScore(BaseModel):
    """One candidate caption."""

    text: str
    logprob: Annotated[
        float,
        Field(description="natural logarithm of the whole caption's probability, its end included"),
    ]
    confidence: Annotated[
        Fraction,
        Field(
            description="the share of its content words (no articles, prepositions, conjunctions, "
            "pronouns or forms of "
            "'be') that a person describing this photo is expected to use; where `calibrated` is "
            "false, the geometric "
            "mean of the probabilities of its words and its end"
        ),
    ]
    words: list[WordScore]

    @classmethod
    def of(cls, hypothesis: Hypothesis) -> Self:
        """The caption without its maps."""
        return cls(
            text=hypothesis.text,
            logprob=round(hypothesis.logprob, _DIGITS),
            confidence=round(hypothesis.confidence, _DIGITS),
            words=[WordScore.of(word) for word in hypothesis.words],
        )


class ImageDescription(BaseModel):
    """The picture that was captioned."""

    width: Annotated[
        int, Field(description="pixels, as a person sees the picture (after EXIF rotation)")
    ]
    height: Annotated[
        int, Field(description="pixels, as a person sees the picture (after EXIF rotation)")
    ]
    format: Annotated[str, Field(description="what the file is, whatever its name says")]


class ModelName(BaseModel):
    """The model that wrote the caption."""

    name: str
    digest: Annotated[str, Field(description="SHA-256 of its weights, in hex")]


class Timing(BaseModel):
    """Where the time went, in seconds."""

    decode_seconds: Annotated[float, Field(description="decoding and resizing the picture")]
    queue_seconds: Annotated[float, Field(description="waiting for a batch")]
    compute_seconds: Annotated[
        float, Field(description="captioning the batch that the picture was in")
    ]


class Grid(BaseModel):
    """Where the cells of every `alpha` lie on the picture."""

    rows: int
    columns: int
    box: Annotated[
        tuple[float, float, float, float],
        Field(
            description="left, top, right, bottom: the rectangle that the cells divide evenly, in "
            "pixels of the "
            "picture as a person sees it (after EXIF rotation)"
        ),
    ]


class _Answer(BaseModel):
    caption: Annotated[str, Field(description="the best caption")]


def _shared(answer: Captioned) -> dict[str, Any]:
    """What both kinds of answer say of the picture, the model and the time."""
    image, model = answer.image, answer.model
    return {
        "caption": answer.caption.hypotheses[0].text,
        "calibrated": model.config.calibration is not None,
        "image": ImageDescription(width=image.width, height=image.height, format=image.format),
        "model": ModelName(name=model.name, digest=model.digest),
        "timing": Timing(
            decode_seconds=round(answer.decode_seconds, _DIGITS),
            queue_seconds=round(answer.queue_seconds, _DIGITS),
            compute_seconds=round(answer.compute_seconds, _DIGITS),
        ),
    }


class CaptionResponse(_Answer):
    """The answer of `POST /caption`."""

    captions: Annotated[list[CaptionScore], Field(description="`num_captions` of them, best first")]
    calibrated: Calibrated
    image: ImageDescription
    model: ModelName
    timing: Timing

    @classmethod
    def of(cls, answer: Captioned) -> Self:
        """The captions without their maps."""
        return cls(
            captions=[CaptionScore.of(each) for each in answer.caption.hypotheses],
            **_shared(answer),
        )


class AttentionResponse(_Answer):
    """The answer of `POST /attention`."""

    words: Annotated[
        list[WordAttention], Field(description="the words of the best caption, in order")
    ]
    calibrated: Calibrated
    grid: Grid
    maps: Annotated[str, Field(description="what `alpha` is in this model")]
    image: ImageDescription
    model: ModelName
    timing: Timing

    @classmethod
    def of(cls, answer: Captioned) -> Self:
        """The best caption with its maps."""
        grid, image = answer.caption.grid, answer.image
        return cls(
            words=[WordAttention.of(word) for word in answer.caption.hypotheses[0].words],
            grid=Grid(
                rows=grid.rows, columns=grid.columns, box=grid.in_pixels(image.width, image.height)
            ),
            maps=MAPS[answer.model.config.decoder.maps],
            **_shared(answer),
        )


class ModelDescription(BaseModel):
    """A model that exists, in memory or not; where it has a `problem`, nothing else is known of
    it."""

    name: str
    default: Annotated[bool, Field(description="whether it answers where a request names no model")]
    loaded: Annotated[
        bool, Field(description="whether it is in memory; if not, the first request for it waits")
    ]
    problem: Annotated[str | None, Field(description="why it cannot be used")] = None
    digest: Annotated[str | None, Field(description="SHA-256 of its weights, in hex")] = None
    parameters: int | None = None
    config: Annotated[
        dict[str, Any] | None, Field(description="architecture, preprocessing, decoding defaults")
    ] = None
    calibrated: Annotated[
        bool | None,
        Field(description="whether its confidences were fitted to what people said of photos"),
    ] = None
    metrics: Annotated[
        dict[str, Any] | None, Field(description="how well it does, as measured when trained")
    ] = None

    @classmethod
    def of(cls, status: ModelStatus, default: str) -> Self:
        """What is known of a model, given the name of the default one."""
        described = cls(name=status.name, default=status.name == default, loaded=status.loaded)
        info = status.info
        if info is None:
            return described.model_copy(update={"problem": _PROBLEM})
        return described.model_copy(
            update={
                "digest": info.digest,
                "parameters": info.parameters,
                "config": info.config.describe(),
                "calibrated": info.config.calibration is not None,
                "metrics": dict(info.metrics),
            }
        )


class ModelList(BaseModel):
    """The answer of `GET /models`."""

    models: Annotated[list[ModelDescription], Field(description="by name")]


class Health(BaseModel):
    """The answer of `/healthz` and `/readyz` when all is well."""

    status: str
    model: str | None = None


class WrongOption(BaseModel):
    """One option that cannot be used."""

    option: str
    message: str


class Problem(BaseModel):
    """What went wrong, and what would be right (RFC 9457)."""

    type: Annotated[
        str, Field(description="the kind of problem: a stable address, answered by this service")
    ]
    title: Annotated[str, Field(description="the kind of problem, in words")]
    status: int
    detail: Annotated[
        str, Field(description="what is wrong with this request, and what would be right")
    ]
    instance: Annotated[
        str | None, Field(description="this occurrence: the request's id, as in `X-Request-ID`")
    ] = None
    errors: Annotated[
        list[WrongOption] | None, Field(description="each option that cannot be used")
    ] = None
