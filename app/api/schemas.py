"""The shapes of the service's JSON answers, which clients may rely on. Knows no engine, no model
and no torch; `app.api.answers` fills them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

__all__ = [
    "AttentionResponse",
    "BatchResponse",
    "CaptionAttention",
    "CaptionResponse",
    "CaptionScore",
    "FoundConcept",
    "FoundObject",
    "Grid",
    "Health",
    "ImageDescription",
    "JobDescription",
    "LookedAt",
    "ModelDescription",
    "ModelList",
    "ModelName",
    "PictureAnswer",
    "Problem",
    "Runtime",
    "Timing",
    "WordAttention",
    "WordScore",
    "WrongOption",
]

Fraction = Annotated[float, Field(ge=0, le=1)]
Warnings = Annotated[
    list[str] | None,
    Field(description="what is missing of the picture, in sentences; absent where nothing is"),
]
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
            "`probability` where `calibrated` is false"
        ),
    ]


class LookedAt(BaseModel):
    """What a word's map is made of: shares that sum to 1."""

    cells: Annotated[Fraction, Field(description="of the cells themselves")]
    objects: Annotated[Fraction, Field(description="of detected objects, spread over their boxes")]
    concepts: Annotated[
        Fraction, Field(description="of concepts, spread over where each was seen in the picture")
    ]
    name: Annotated[
        str | None,
        Field(description="the object or concept with the greatest share; absent without any"),
    ] = None


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
            "gate, always 1 in LRCN and the Transformer, and always 0 in NIC, which is given the "
            "picture once, before the first word"
        ),
    ]
    looked_at: Annotated[
        LookedAt | None,
        Field(description="absent where the model looks for no objects and concepts"),
    ] = None


class _Candidate(BaseModel):
    text: str
    logprob: Annotated[
        float,
        Field(description="natural logarithm of the whole caption's probability, its end included"),
    ]
    confidence: Annotated[
        Fraction,
        Field(
            description="the share of its content words (no articles, prepositions, conjunctions, "
            "pronouns or forms of 'be') that a person describing this photo is expected to use; "
            "where `calibrated` is false, the geometric mean of the probabilities of its words "
            "and its end"
        ),
    ]


class CaptionScore(_Candidate):
    """One candidate caption."""

    words: list[WordScore]


class CaptionAttention(_Candidate):
    """One candidate caption, and where the model looked for each of its words."""

    words: list[WordAttention]


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
            "pixels of the picture as a person sees it (after EXIF rotation)"
        ),
    ]


class FoundObject(BaseModel):
    """An object that was detected in the picture."""

    name: Annotated[str, Field(description="one of the 80 kinds of COCO")]
    score: Annotated[Fraction, Field(description="how sure the detector is")]
    box: Annotated[
        tuple[float, float, float, float],
        Field(
            description="left, top, right, bottom, in pixels of the picture as a person sees it "
            "(after EXIF rotation)"
        ),
    ]


class FoundConcept(BaseModel):
    """What the picture as a whole was taken for."""

    name: Annotated[str, Field(description="one of the 1,000 classes of ImageNet")]
    score: Annotated[Fraction, Field(description="how sure the classifier is")]


Objects = Annotated[
    list[FoundObject] | None,
    Field(
        description="the detected objects, the surest first, with `include=objects`; absent where "
        "the model looks for none"
    ),
]
Concepts = Annotated[
    list[FoundConcept] | None,
    Field(description="the concepts, the likeliest first, where `objects` is there"),
]


class _Answer(BaseModel):
    caption: Annotated[str, Field(description="the best caption")]


class CaptionResponse(_Answer):
    """The answer of `POST /caption`."""

    captions: Annotated[list[CaptionScore], Field(description="`num_captions` of them, best first")]
    calibrated: Calibrated
    image: ImageDescription
    model: ModelName
    timing: Timing
    objects: Objects = None
    concepts: Concepts = None
    warnings: Warnings = None


class AttentionResponse(_Answer):
    """The answer of `POST /attention`."""

    words: Annotated[
        list[WordAttention], Field(description="the words of the best caption, in order")
    ]
    captions: Annotated[
        list[CaptionAttention] | None,
        Field(
            description="all captions, best first, each with its maps, where `num_captions` is "
            "more than 1; else absent"
        ),
    ] = None
    calibrated: Calibrated
    grid: Grid
    maps: Annotated[str, Field(description="what `alpha` is in this model")]
    image: ImageDescription
    model: ModelName
    timing: Timing
    objects: Objects = None
    concepts: Concepts = None
    warnings: Warnings = None


class PictureAnswer(BaseModel):
    """One picture of several: its answer, or its problem."""

    position: Annotated[int, Field(description="among the pictures of the request, from 0")]
    name: Annotated[
        str | None, Field(description="of the file as it was sent; absent where none was")
    ] = None
    status: Annotated[
        int, Field(description="which `POST /caption` would have answered this picture with")
    ]
    answer: Annotated[CaptionResponse | None, Field(description="there where `status` is 200")] = (
        None
    )
    problem: Annotated[
        "Problem | None", Field(description="there where `status` is another one")
    ] = None
    retry_after_seconds: Annotated[
        int | None, Field(description="when sending this picture again makes sense")
    ] = None


class BatchResponse(BaseModel):
    """The answer of `POST /caption/batch`."""

    pictures: Annotated[list[PictureAnswer], Field(description="in the order of the request")]
    captioned: Annotated[int, Field(description="how many have an answer")]
    failed: Annotated[int, Field(description="how many have a problem")]


class JobDescription(BaseModel):
    """A job: how far it is, and what there is of it."""

    id: str
    state: Annotated[
        Literal["active", "done", "canceled"],
        Field(description="`active` until every picture has its answer or its problem"),
    ]
    created: datetime
    ended: Annotated[datetime | None, Field(description="absent while it is active")] = None
    total: Annotated[int, Field(description="how many pictures were sent")]
    captioned: Annotated[int, Field(description="how many have an answer so far")]
    failed: Annotated[int, Field(description="how many have a problem so far")]
    pictures: Annotated[
        list[PictureAnswer] | None,
        Field(description="those, by their position; absent where none were asked for"),
    ] = None


class Runtime(BaseModel):
    """What a loaded model computes with."""

    name: str
    precision: Annotated[str, Field(description="of the encoder, as it was chosen at the load")]
    threads: Annotated[int, Field(description="that compute one batch")]


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
    runtime: Annotated[
        Runtime | None, Field(description="what it computes with; null where it is not loaded")
    ] = None
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
