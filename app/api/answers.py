"""From what the engine answers to the shapes that clients see.

Rounds numbers, and turns cells into pixels. Knows no HTTP.
"""

from app.api.schemas import (
    AttentionResponse,
    CaptionAttention,
    CaptionResponse,
    CaptionScore,
    FoundConcept,
    FoundObject,
    Grid,
    ImageDescription,
    LookedAt,
    ModelDescription,
    ModelName,
    Runtime,
    Timing,
    WordAttention,
    WordScore,
)
from app.engine.records import Captioned, ModelStatus
from models.caption import Hypothesis, ImageTag, TagKind, Word
from models.config import MapKind, ModelConfig

__all__ = ["MAPS", "attention_response", "caption_response", "model_description"]

_ALPHA_DIGITS = 7
_DIGITS = 6
_PROBLEM = (
    "Its files are missing or damaged, or make no model that works; the operator finds the reason "
    "in the service's log."
)

MAPS = {
    MapKind.SOFT: "soft attention, each cell's share in what the model saw as it chose the word",
    MapKind.HARD: "hard attention, all on the one cell that the model saw as it chose the word",
    MapKind.CROSS_ATTENTION: "the cross-attention of the last layer, averaged over its heads",
    MapKind.UNIFORM: "even, as the model sees the picture as one vector",
}


def caption_response(answer: Captioned, *, objects: bool = False) -> CaptionResponse:
    """Answer `POST /caption`: every caption, without maps; with what was found, if asked for."""
    return CaptionResponse(
        caption=answer.caption.best.text,
        captions=[_caption_score(hypothesis) for hypothesis in answer.caption.hypotheses],
        calibrated=_is_calibrated(answer.model.config),
        image=_image(answer),
        model=_model(answer),
        timing=_timing(answer),
        objects=_objects(answer) if objects else None,
        concepts=_concepts(answer) if objects else None,
        warnings=list(answer.image.warnings) or None,
    )


def attention_response(answer: Captioned, *, objects: bool = False) -> AttentionResponse:
    """Answer `POST /attention`: the best caption with its maps, or all where several were asked.

    objects: list what else was found.
    """
    captions = [_caption_attention(each, answer) for each in answer.caption.hypotheses]
    return AttentionResponse(
        caption=answer.caption.best.text,
        words=captions[0].words,
        captions=captions if len(captions) > 1 else None,
        calibrated=_is_calibrated(answer.model.config),
        grid=_grid(answer),
        maps=MAPS[answer.model.config.decoder.maps],
        image=_image(answer),
        model=_model(answer),
        timing=_timing(answer),
        objects=_objects(answer) if objects else None,
        concepts=_concepts(answer) if objects else None,
        warnings=list(answer.image.warnings) or None,
    )


def model_description(status: ModelStatus, default: str) -> ModelDescription:
    """Describe one model of `GET /models`, given the name of the default one."""
    is_default = status.name == default
    info = status.info
    if info is None:
        return ModelDescription(
            name=status.name,
            default=is_default,
            loaded=status.loaded,
            problem=status.problem or _PROBLEM,
        )
    return ModelDescription(
        name=status.name,
        default=is_default,
        loaded=status.loaded,
        digest=info.digest,
        parameters=info.parameters,
        runtime=_runtime(status),
        config=info.config.describe(),
        calibrated=_is_calibrated(info.config),
        metrics=dict(info.metrics),
    )


def _caption_score(hypothesis: Hypothesis) -> CaptionScore:
    return CaptionScore(
        text=hypothesis.text,
        logprob=round(hypothesis.logprob, _DIGITS),
        confidence=round(hypothesis.confidence, _DIGITS),
        words=[_word_score(word) for word in hypothesis.words],
    )


def _caption_attention(hypothesis: Hypothesis, answer: Captioned) -> CaptionAttention:
    return CaptionAttention(
        text=hypothesis.text,
        logprob=round(hypothesis.logprob, _DIGITS),
        confidence=round(hypothesis.confidence, _DIGITS),
        words=[_word_attention(word, answer) for word in hypothesis.words],
    )


def _word_score(word: Word) -> WordScore:
    return WordScore(
        word=word.text,
        probability=round(word.probability, _DIGITS),
        confidence=round(word.confidence, _DIGITS),
    )


def _word_attention(word: Word, answer: Captioned) -> WordAttention:
    return WordAttention(
        word=word.text,
        probability=round(word.probability, _DIGITS),
        confidence=round(word.confidence, _DIGITS),
        alpha=[[round(cell, _ALPHA_DIGITS) for cell in row] for row in word.alpha.tolist()],
        beta=round(word.beta, _DIGITS),
        looked_at=_looked_at(word, answer),
    )


def _looked_at(word: Word, answer: Captioned) -> LookedAt | None:
    """Sum the shares of a word's map by what it lies on; None where the model sees no tags."""
    if answer.model.config.tagger is None:
        return None
    shares = dict.fromkeys(TagKind, 0.0)
    for tag, share in zip(answer.caption.tags, word.tag_shares, strict=True):
        shares[tag.kind] += share
    named = max(zip(word.tag_shares, answer.caption.tags, strict=True), key=_share, default=None)
    return LookedAt(
        cells=round(max(1.0 - sum(shares.values()), 0.0), _DIGITS),
        objects=round(min(shares[TagKind.OBJECT], 1.0), _DIGITS),
        concepts=round(min(shares[TagKind.CONCEPT], 1.0), _DIGITS),
        name=None if named is None else named[1].name,
    )


def _share(named: tuple[float, ImageTag]) -> float:
    return named[0]


def _objects(answer: Captioned) -> list[FoundObject] | None:
    """List the detected objects, from fractions of the image to its pixels."""
    if answer.model.config.tagger is None:
        return None
    width, height = answer.image.width, answer.image.height
    return [
        FoundObject(
            name=tag.name,
            score=round(tag.score, _DIGITS),
            box=_rounded(tag.box.in_pixels(width, height)),
        )
        for tag in answer.caption.tags
        if tag.kind is TagKind.OBJECT
    ]


def _concepts(answer: Captioned) -> list[FoundConcept] | None:
    if answer.model.config.tagger is None:
        return None
    return [
        FoundConcept(name=tag.name, score=round(tag.score, _DIGITS))
        for tag in answer.caption.tags
        if tag.kind is TagKind.CONCEPT
    ]


def _rounded(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(edge, 1) for edge in box)
    return left, top, right, bottom


def _grid(answer: Captioned) -> Grid:
    """The caption's grid, from fractions of the image to its pixels."""
    grid = answer.caption.grid
    box = grid.in_pixels(answer.image.width, answer.image.height)
    return Grid(rows=grid.rows, columns=grid.columns, box=box)


def _image(answer: Captioned) -> ImageDescription:
    image = answer.image
    return ImageDescription(width=image.width, height=image.height, format=image.format)


def _model(answer: Captioned) -> ModelName:
    return ModelName(name=answer.model.name, digest=answer.model.digest)


def _timing(answer: Captioned) -> Timing:
    return Timing(
        decode_seconds=round(answer.decode_seconds, _DIGITS),
        queue_seconds=round(answer.queue_seconds, _DIGITS),
        compute_seconds=round(answer.compute_seconds, _DIGITS),
    )


def _runtime(status: ModelStatus) -> Runtime | None:
    runtime = status.runtime
    if runtime is None:
        return None
    return Runtime(name=runtime.name, precision=runtime.precision, threads=runtime.threads)


def _is_calibrated(config: ModelConfig) -> bool:
    return config.calibration is not None
