"""The page of translators, from their results. Measures nothing."""

from collections.abc import Mapping, Sequence

from evaluation.records import Estimate
from evaluation.report.markdown import ABSENT, markdown_table, percent, with_interval
from evaluation.translation_results import TranslationResults, TranslatorRow

__all__ = ["LENGTHS_PICTURE", "language_name", "translations_page"]

LENGTHS_PICTURE = "images/translations-by-length.svg"
"""Where the picture lies, from the page."""

_LANGUAGES = {"cs": "Czech", "de": "German", "fr": "French", "ko": "Korean"}

_INTRODUCTION = """# Translations

How well the translators of captions translate, on the test sets of Multi30k (Elliott et al. 2016,
2017; Barrault et al. 2018). Scores are times 100, cased and detokenized, with their 95 % intervals
(bootstrap over sentences) below. This page is written by `glimpse-train translations`."""


def language_name(code: str) -> str:
    """Give the English name of a language, or its code where it is not one of ours."""
    return _LANGUAGES.get(code, code)


def translations_page(results: TranslationResults, *, with_picture: bool) -> str:
    """Write the page. with_picture: whether the picture by length was drawn."""
    parts = [_INTRODUCTION]
    if results.limit is not None:
        parts.append(f"**A quick look at the first {results.limit} sentences of each set.**")
    for language in dict.fromkeys(row.target_language for row in results.rows):
        rows = [row for row in results.rows if row.target_language == language]
        parts.append(f"## English to {language_name(language)}")
        parts += _language(rows)
    if results.differences:
        parts += ["## Which differences are real", _differences(results)]
    parts += ["## By length of the source", _by_length(results.rows)]
    if with_picture:
        parts.append(
            f"![BLEU by words of the source, a line for each translator]({LENGTHS_PICTURE})"
        )
    parts += ["## How it was measured", _method(results)]
    return "\n\n".join(parts) + "\n"


def _language(rows: Sequence[TranslatorRow]) -> list[str]:
    sets = list(dict.fromkeys(name for row in rows for name in row.scores))
    header = ["translator", *(f"{name}: {metric}" for name in sets for metric in ("BLEU", "chrF"))]
    written = [[row.name, *_cells(row.scores, sets)] for row in rows]
    captioned = [[row.name, *_cells(row.captioned, sets)] for row in rows]
    sizes = [[row.name, f"{row.parameters / 1e6:.1f}", f"{1000 * row.seconds:.0f}"] for row in rows]
    return [
        "Sources as people wrote them:",
        markdown_table(header, written),
        "The same sources as the captioner writes, in lower case and without punctuation; the "
        "references stay as they are:",
        markdown_table(header, captioned),
        markdown_table(["translator", "million parameters", "ms a sentence"], sizes),
    ]


def _cells(scores: Mapping[str, Mapping[str, Estimate]], sets: Sequence[str]) -> list[str]:
    return [
        with_interval(scores.get(name, {}).get(metric))
        for name in sets
        for metric in ("BLEU", "chrF")
    ]


def _differences(results: TranslationResults) -> str:
    header = [
        "BLEU of one less that of the other",
        "test set",
        "difference",
        "95 % interval",
        "real",
    ]
    rows = [
        [
            f"{each.first} less {each.second}",
            each.test_set,
            f"{100 * each.value:+.1f}",
            f"{100 * each.low:+.1f} to {100 * each.high:+.1f}",
            "yes" if each.is_real else "no",
        ]
        for each in results.differences
    ]
    return markdown_table(header, rows)


def _by_length(rows: Sequence[TranslatorRow]) -> str:
    classes = sorted({(p.shortest, p.longest) for row in rows for p in row.by_length})
    header = ["translator", *(f"{first} to {last} words" for first, last in classes)]
    lines = []
    for row in rows:
        found = {(p.shortest, p.longest): percent(p.bleu.value) for p in row.by_length}
        lines.append([row.name, *(found.get(each, ABSENT) for each in classes)])
    return markdown_table(header, lines)


def _method(results: TranslationResults) -> str:
    lines = [f"* {name}: `{signature}`" for name, signature in results.signatures.items()]
    sizes = ", ".join(f"{name} {size}" for name, size in results.sizes.items())
    lines.append(f"* Sentences: {sizes}.")
    lines.append(
        f"* {results.bootstrap.resamples} resamples of sentences; differences are taken on the "
        "same resamples (Koehn 2004)."
    )
    lines.append("* The shared tasks print scores of lower-case, tokenized text: do not compare.")
    return "\n".join(lines)
