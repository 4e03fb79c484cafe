"""The page of matching: every figure and every claim is made of the results. Measures nothing."""

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evaluation.matching_results import ChosenCaptions, Judged, MatchingResults, Retrieved
from evaluation.report.markdown import ABSENT, markdown_table, text_table, with_interval

__all__ = ["read_queries", "render_matching"]

_DEPTHS = ("R@1", "R@5", "R@10")
_MEDIAN = "median rank"
_MISMATCHES = {"random": "anybody else's caption", "near": "one of the hundred nearest captions"}


class _Queries(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    queries: tuple[str, ...]


@cache
def read_queries() -> tuple[str, ...]:
    """Read queries.toml."""
    text = Path(__file__).with_name("queries.toml").read_text(encoding="utf-8")
    return _Queries.model_validate(tomllib.loads(text)).queries


def render_matching(results: MatchingResults, command: str) -> str:
    """Write the page; `command` measures it again."""
    sections = [
        _head(results, command),
        _retrieval(results),
        _words(results),
        _regions(results),
        _judged(results),
        "" if results.captions_chosen is None else _captions(results.captions_chosen),
        _queries(results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(results: MatchingResults, command: str) -> str:
    return (
        "# Pictures and sentences matched\n\n"
        f"Measured on {results.photos:,} photos of Flickr8k's test split and their "
        f"{results.captions:,} captions, seen through the eyes of `{results.eyes}`. In small, the "
        "95 % interval of a thousand resamples of the photos. What these models were trained for "
        "is told in [training.md](training.md); what was published elsewhere is not quoted here. "
        f"The figures lie beside this page as JSON.\n\n```bash\n{command}\n```"
    )


def _retrieval(results: MatchingResults) -> str:
    rows = [_retrieval_row(f"`{results.finder}`", results.found)]
    text = ""
    if results.reranked is not None:
        again = results.reranked
        rows.append(_retrieval_row(f"`{results.finder}`, re-ranked by `vilbert`", again.retrieved))
        text = (
            f"\n\nRe-ranked are the {again.candidates} that were found first, each way, by their "
            f"similarity and {again.weight:g} times the logit of fitting, which was chosen on "
            f"{again.dev_photos} dev photos."
        )
    header = [""]
    for what in ("photo from sentence", "sentence from photo"):
        header += [f"{what}: {name}" for name in (*_DEPTHS, _MEDIAN)]
    return f"## Found\n\n{markdown_table(header, rows)}{text}"


def _retrieval_row(name: str, found: Retrieved) -> list[str]:
    cells = [name]
    for way in (found.picture, found.sentence):
        cells += [with_interval(way[depth]) for depth in _DEPTHS]
        cells.append(with_interval(way[_MEDIAN], _whole))
    return cells


def _whole(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.0f}"


def _words(results: MatchingResults) -> str:
    if not results.words:
        return ""
    rows = [
        [f"`{name}`", with_interval(each["with"]), with_interval(each["without"])]
        for name, each in results.words.items()
    ]
    table = markdown_table(["right, %", "with the picture", "without it"], rows)
    return (
        "## Blanks filled\n\nOne word of each caption is masked; the first guess counts.\n\n"
        f"{table}"
    )


def _regions(results: MatchingResults) -> str:
    if not results.regions or results.region_guess is None:
        return ""
    rows = [[f"`{name}`", with_interval(each)] for name, each in results.regions.items()]
    rows.append([f'always "{results.region_word}"', with_interval(results.region_guess)])
    return (
        "## Hidden regions\n\n"
        f"In {results.region_photos} photos the box of a phrase is hidden before the eyes see it; "
        "the words for what lay there are masked in the caption beside it. Right is a head noun "
        f"that people used.\n\n{markdown_table(['right, %', ''], rows)}"
    )


def _judged(results: MatchingResults) -> str:
    if not results.judged:
        return ""
    rows = [_judged_row(_MISMATCHES[kind], each) for kind, each in results.judged.items()]
    table = markdown_table(["mismatched with", "accuracy, %", "calibration error, %"], rows)
    return (
        "## Told apart\n\nDoes this caption fit this photo? Half of the pairs do. The calibration "
        f"error is how far the probability is from the share that fits.\n\n{table}"
    )


def _judged_row(name: str, judged: Judged) -> list[str]:
    return [name, with_interval(judged.accuracy), with_interval(judged.calibration_error)]


def _captions(chosen: ChosenCaptions) -> str:
    rows = []
    for name, own in chosen.own.items():
        mark = "yes" if name in chosen.real else "no"
        rows.append([name, with_interval(own), with_interval(chosen.chosen[name]), mark])
    table = markdown_table(["", "the search's own", "chosen", "more than chance"], rows)
    return (
        "## Captions chosen\n\nAmong the captioner's ten best, by the search's score and "
        f"{chosen.mixture:g} times the logit of fitting, chosen on dev (0: the search's own "
        f"stay).\n\n{table}"
    )


def _queries(results: MatchingResults) -> str:
    if not results.queries:
        return ""
    rows = [[each.query, ", ".join(each.photos)] for each in results.queries]
    return (
        "## Twelve queries\n\nPicked before looking; the five photos that each finds among the "
        "test photos, by their file names. `--photos-sheet` draws them, on a sheet that may not "
        f"be passed on.\n\n{text_table(['query', 'photos, the best first'], rows)}"
    )
