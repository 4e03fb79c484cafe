"""The page of the sixty things, and what the model's card says of them. Measures nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from evaluation.report.markdown import ABSENT, markdown_table, percent, plain, text_table
from evaluation.report.sixty_results import (
    JUDGEMENTS,
    Judgement,
    SixtyResult,
    ThingResult,
    Verdicts,
    judgement,
)
from evaluation.report.things import UNSURE_KINDS, Kind

__all__ = ["card_paragraph", "render_sixty"]

_INTRO = (
    "Sixty things that people upload, chosen without regard to what any model says of them "
    "(`evaluation/report/sixty.toml`): each with a photo of scikit-image, a picture that code "
    "draws (`evaluation/report/made_images.py`), or the first photo of the everyday dev set whose "
    "captions name it; those of that set helped to choose the weights, and are not shown. What "
    "stands here is the best caption of `{model}` (weights `{digest}`), as the service answers "
    "it, and a verdict given by hand: right; half right, where the main thing is right and "
    "something else is wrong, made up or said twice; wrong. A verdict is of one caption: a new "
    "one has none until somebody has looked. Made by `glimpse-train sixty`."
)

_UNSURE = (
    "Of noise, plain surfaces, text and drawings the model was taught nothing; there its "
    "confidence should lie below the median of its right captions, unless the caption is right."
)


def render_sixty(result: SixtyResult, verdicts: Verdicts, sheet: Path | None = None) -> str:
    """Render the page. sheet: the pictures that may be shown, relative to the page."""
    parts = [
        "# Sixty pictures that no set has",
        _INTRO.format(model=result.model, digest=result.digest[:12]),
        "## How many are right",
        _counts(result, verdicts),
        f"{_UNSURE} {_too_sure(result, verdicts)}",
        "## One by one",
        _table(result.things, verdicts),
    ]
    if sheet is not None:
        parts += [
            "The pictures that may be shown, by their numbers:",
            f"![The pictures by their numbers]({sheet.as_posix()})",
        ]
    return "\n\n".join(parts) + "\n"


def card_paragraph(result: SixtyResult | None, verdicts: Verdicts, digest: str) -> str:
    """Say the shares in a sentence; "" where these are not what the weights `digest` say."""
    if result is None or result.digest != digest:
        return ""
    counts = result.counts(verdicts)
    shares = [f"{percent(counts[each] / len(result.things))} % {each}" for each in JUDGEMENTS]
    text = (
        f"Of {len(result.things)} pictures of things that people upload "
        f"([docs/sixty.md](../../docs/sixty.md)), its captions are {', '.join(shares[:-1])} and "
        f"{shares[-1]}, judged by hand"
    )
    left = counts["not judged yet"]
    return f"{text}; {left} are not judged yet." if left else f"{text}."


def _counts(result: SixtyResult, verdicts: Verdicts) -> str:
    """Tabulate the verdicts by kind of picture, and the confidences by verdict."""
    columns: list[Judgement] = [*JUDGEMENTS]
    if result.counts(verdicts)["not judged yet"]:
        columns.append("not judged yet")
    rows = []
    for kind in get_args(Kind):
        things = tuple(thing for thing in result.things if thing.kind == kind)
        if things:
            rows.append(_count_row(kind, result.model_copy(update={"things": things}), verdicts))
    rows.append(_count_row("all", result, verdicts))
    shares = [result.counts(verdicts)[each] / len(result.things) for each in columns]
    rows.append(["share, %", "", *map(percent, shares)])
    medians = [result.median_confidence(verdicts, each) for each in columns]
    rows.append(["median confidence", "", *map(plain, medians)])
    header = ["", "pictures", *columns]
    return markdown_table(header, [row[: len(header)] for row in rows])


def _count_row(title: str, part: SixtyResult, verdicts: Verdicts) -> list[str]:
    counts = part.counts(verdicts)
    numbers = [len(part.things), *(counts[each] for each in get_args(Judgement))]
    return [title, *map(str, numbers)]


def _too_sure(result: SixtyResult, verdicts: Verdicts) -> str:
    asked = sum(thing.kind in UNSURE_KINDS for thing in result.things)
    limit = result.median_confidence(verdicts, "right")
    if limit is None:
        return "None was judged right yet."
    found = result.too_sure(verdicts)
    text = f"That median is {limit:.2f}, and of {asked} such captions {len(found)} do not lie below"
    names = ", ".join(f"{thing.name} ({thing.confidence:.2f})" for thing in found)
    return f"{text}: {names}." if found else f"{text} it."


def _table(things: Sequence[ThingResult], verdicts: Verdicts) -> str:
    """Tabulate every thing; objects are shown where some model looked for them."""
    has_objects = any(thing.objects is not None for thing in things)
    header = ["", "what it is", "caption", "objects", "confidence", "verdict"]
    rows = []
    for number, thing in enumerate(things, start=1):
        verdict = verdicts.get(thing.name, {}).get(thing.caption) or judgement(verdicts, thing)
        row = [
            str(number),
            f"{thing.name}<br><sub>{thing.source}</sub>",
            thing.caption,
            ABSENT if thing.objects is None else ", ".join(thing.objects),
            f"{thing.confidence:.2f}",
            verdict,
        ]
        rows.append(row)
    if not has_objects:
        header.remove("objects")
        rows = [[*row[:3], *row[4:]] for row in rows]
    return text_table(header, rows)
