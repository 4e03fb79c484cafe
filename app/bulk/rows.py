"""What is kept of one photo: its caption, or its problem. Knows no files and no models.

Problems have the codes of the HTTP interface: the last part of a problem's `type`.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from app.api.answers import caption_response
from app.api.problem_kinds import INTERNAL, kind_of
from app.engine.records import Captioned

__all__ = ["COLUMNS", "Row", "captioned_row", "is_refusal", "problem_detail", "problem_row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the output.

    file: the photo's name. caption, confidence, logprob: of the best caption.
    captions: every caption, best first: `text`, `confidence`, `logprob`.
    width, height, format, warnings: of the photo, as `POST /caption` answers.
    model, digest: which model wrote it.
    xmp: "written" or "kept" where the caption was to go into the file, else why it did not.
    problem, detail: the code of what is wrong, and a sentence; both or neither.
    """

    file: str
    caption: str | None = None
    confidence: float | None = None
    logprob: float | None = None
    captions: tuple[dict[str, Any], ...] = ()
    width: int | None = None
    height: int | None = None
    format: str | None = None
    warnings: tuple[str, ...] = ()
    model: str | None = None
    digest: str | None = None
    xmp: str | None = None
    problem: str | None = None
    detail: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give every column, in their order."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(Row))
"""The columns of a row, in their order."""


def is_refusal(xmp: str | None) -> bool:
    """Tell whether `Row.xmp` says why a caption is not in its photo's file."""
    return xmp not in (None, "", "written", "kept")


def captioned_row(name: str, answer: Captioned, xmp: str | None = None) -> Row:
    """Keep an answer, with the numbers that `POST /caption` gives."""
    response = caption_response(answer)
    best = response.captions[0]
    return Row(
        file=name,
        caption=response.caption,
        confidence=best.confidence,
        logprob=best.logprob,
        captions=tuple(
            {"text": each.text, "confidence": each.confidence, "logprob": each.logprob}
            for each in response.captions
        ),
        width=response.image.width,
        height=response.image.height,
        format=response.image.format,
        model=response.model.name,
        digest=response.model.digest,
        warnings=tuple(response.warnings or ()),
        xmp=xmp,
    )


def problem_row(name: str, error: Exception) -> Row:
    """Keep what is wrong with a photo."""
    return Row(file=name, problem=kind_of(error).slug, detail=problem_detail(error))


def problem_detail(error: Exception) -> str:
    """Say what is wrong in a sentence; of what was not foreseen, no more than its type."""
    if kind_of(error) is INTERNAL:
        return f"The picture could not be captioned ({type(error).__name__}); the log says more."
    return str(error)
