"""BLEU and chrF are sacrebleu's, for the whole, for parts and for resamples."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import sacrebleu

from evaluation.measures.bootstrap import compare, draw_resamples, interval
from evaluation.metrics.score import Score
from evaluation.metrics.translation import (
    signatures,
    translation_bleu,
    translation_chrf,
    translation_scores,
)

REFERENCES = [
    "Ein Hund läuft am Strand.",
    "Zwei Männer stehen an einem Herd und bereiten Essen zu.",
    "Ein kleines Mädchen klettert in ein Spielhaus aus Holz.",
    "Eine Frau in Rot liest.",
]
HYPOTHESES = [
    "Ein Hund läuft am Strand entlang.",
    "Zwei Männer stehen an einem Herd.",
    "ein kleines mädchen klettert in ein Spielhaus aus Holz.",
    "Ein Mann schläft.",
]


def test_scores_are_those_of_sacrebleu() -> None:
    bleu, chrf = translation_scores(REFERENCES, HYPOTHESES)
    assert bleu.value * 100 == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score)
    assert chrf.value * 100 == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)


@pytest.mark.parametrize("score_of", [translation_bleu, translation_chrf])
def test_score_of_a_part_is_that_of_its_sentences(
    score_of: Callable[[Sequence[str], Sequence[str]], Score],
) -> None:
    part = score_of(REFERENCES, HYPOTHESES).part(slice(1, 3))
    assert part.value == pytest.approx(score_of(REFERENCES[1:3], HYPOTHESES[1:3]).value)


def test_resamples_are_scores_of_the_sentences_drawn() -> None:
    score = translation_bleu(REFERENCES, HYPOTHESES)
    (value,) = score.of_sums(np.array([[2.0, 1.0, 1.0, 0.0]]) @ score.statistics)
    drawn = [0, 0, 1, 2]
    wanted = sacrebleu.corpus_bleu(
        [HYPOTHESES[i] for i in drawn], [[REFERENCES[i] for i in drawn]]
    ).score
    assert value * 100 == pytest.approx(wanted)


def test_interval_holds_the_score_and_a_better_translation_is_better() -> None:
    resamples = draw_resamples(len(REFERENCES), 200, 0)
    score = translation_bleu(REFERENCES, HYPOTHESES)
    around = interval(score, resamples)
    assert around.low <= score.value <= around.high
    perfect = translation_bleu(REFERENCES, REFERENCES)
    assert perfect.value == pytest.approx(1.0)
    assert compare(perfect, score, resamples).is_real


def test_case_and_punctuation_count() -> None:
    lower = [text.lower() for text in REFERENCES]
    assert translation_bleu(REFERENCES, lower).value < 0.9


def test_signatures_name_what_makes_scores_alike() -> None:
    found = signatures()
    assert found["BLEU"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert found["chrF"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_other_numbers_of_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="4 references for 3"):
        translation_bleu(REFERENCES, HYPOTHESES[:3])
    with pytest.raises(ValueError, match="0 references"):
        translation_bleu([], [])
