"""The page of translators: what is measured by length and in pairs, and how it is written."""

import pytest

from evaluation.figures.lengths import length_figure
from evaluation.measures.bootstrap import SETTINGS
from evaluation.measures.translations import (
    MeasuredTranslator,
    TranslatedSet,
    bleu_by_length,
    compare_translators,
    seconds_a_sentence,
    translate_set,
)
from evaluation.metrics.translation import signatures
from evaluation.report.translations_page import language_name, translations_page
from evaluation.translation_results import TranslationResults, TranslatorRow
from models.translation.subwords import as_captioned
from tests.unit.toy_translators import toy_translator
from training.data.pairs import SentencePair

SHORT = [SentencePair(f"A dog number {n} runs", f"Ein Hund Nummer {n} läuft") for n in range(30)]
LONG = [
    SentencePair(f"{pair.source} and then it runs and runs and runs", f"{pair.target} und läuft")
    for pair in SHORT
]


def measured(forgets: bool) -> MeasuredTranslator:
    """A translator that is right, or that forgets the end of long sentences."""
    pairs = [*SHORT, *LONG]
    texts = [pair.target for pair in SHORT]
    texts += [pair.target.replace(" und läuft", "") if forgets else pair.target for pair in LONG]
    sets = {"toy": TranslatedSet(pairs, texts)}
    return MeasuredTranslator(sets, sets)


def results() -> TranslationResults:
    found = {"right": measured(False), "forgets": measured(True)}
    rows = [
        TranslatorRow(
            name=name,
            target_language="de",
            parameters=2_600_000,
            digest="0" * 64,
            scores=each.estimates(),
            captioned=each.estimates(captioned=True),
            by_length=bleu_by_length(each),
            seconds=0.012,
        )
        for name, each in found.items()
    ]
    return TranslationResults(
        signatures=signatures(),
        bootstrap=SETTINGS,
        sizes={"toy": 60},
        rows=tuple(rows),
        differences=compare_translators(found),
    )


def test_bleu_by_length_falls_where_the_end_is_forgotten() -> None:
    short, long = bleu_by_length(measured(True))
    assert (short.shortest, short.longest, short.sentences) == (5, 5, 30)
    assert long.shortest == 13
    assert short.bleu.value == pytest.approx(1.0)
    assert long.bleu.value is not None
    assert long.bleu.value < 0.95


def test_lengths_of_few_sentences_are_left_out() -> None:
    sets = {"toy": TranslatedSet(SHORT[:5], [pair.target for pair in SHORT[:5]])}
    assert bleu_by_length(MeasuredTranslator(sets, sets)) == ()


def test_the_best_is_compared_with_each_other_one() -> None:
    (difference,) = compare_translators({"one": measured(True), "other": measured(False)})
    assert (difference.first, difference.second, difference.test_set) == ("other", "one", "toy")
    assert difference.value > 0
    assert difference.is_real


def test_page_has_every_table_and_the_signature() -> None:
    page = translations_page(results(), with_picture=True)
    for part in ("English to German", "toy: BLEU", "toy: chrF", "100.0", "right less forgets"):
        assert part in page
    assert "5 to 5 words" in page
    assert signatures()["BLEU"] in page
    assert "translations-by-length.svg" in page
    assert "| forgets | 2.6 | 12 |" in page


def test_page_of_a_quick_look_says_so() -> None:
    page = translations_page(results().model_copy(update={"limit": 7}), with_picture=False)
    assert "first 7 sentences" in page
    assert "svg" not in page


def test_results_come_back_from_json() -> None:
    found = results()
    assert TranslationResults.model_validate_json(found.model_dump_json()) == found


def test_figure_has_a_line_for_each_translator() -> None:
    figure = length_figure({row.name: row.by_length for row in results().rows})
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["right", "forgets"]
    assert axes.lines[0].get_ydata()[0] == pytest.approx(100)  # type: ignore[index]


def test_captioned_set_is_read_as_the_captioner_writes() -> None:
    translator = toy_translator()
    pairs = [SentencePair("A red Cat, sleeps.", "Eine rote Katze schläft.")]
    written = translate_set(translator, pairs)
    captioned = translate_set(translator, pairs, captioned=True)
    (wanted,) = translator.translate_texts([as_captioned(pairs[0].source)])
    assert captioned.hypotheses == [wanted.text]
    assert written.references == captioned.references
    assert seconds_a_sentence(translator, [pairs[0].source]) > 0


def test_language_without_a_name_is_called_by_its_code() -> None:
    assert [language_name(code) for code in ("de", "ko", "xx")] == ["German", "Korean", "xx"]
