"""What is measured of translators: BLEU and chrF, in both manners of writing and by length.

Knows no files. Every translator goes through `models.translation.translator.Translator`, as it is
served.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from evaluation.measures.bootstrap import (
    SETTINGS,
    compare,
    default_resamples,
    draw_resamples,
    estimate,
    interval,
    round_value,
)
from evaluation.metrics.score import Score
from evaluation.metrics.translation import translation_bleu, translation_scores
from evaluation.records import Estimate
from evaluation.translation_results import LengthPoint, TranslationDifference
from models.translation.subwords import as_captioned
from models.translation.translator import Translator
from training.data.pairs import SentencePair

__all__ = [
    "MeasuredTranslator",
    "TranslatedSet",
    "bleu_by_length",
    "compare_translators",
    "measure_translator",
    "seconds_a_sentence",
    "translate_set",
]

_EDGES = (1, 7, 9, 11, 13, 15, 18, 22, 10_000)
"""Words of the source where a class of lengths begins."""

_LEAST_SENTENCES = 20
_TIMED = 20


@dataclass(frozen=True, slots=True)
class TranslatedSet:
    """A test set, and what a translator made of its sources."""

    pairs: Sequence[SentencePair]
    hypotheses: Sequence[str]

    @property
    def references(self) -> list[str]:
        """What people wrote."""
        return [pair.target for pair in self.pairs]

    def scores(self) -> list[Score]:
        """BLEU and chrF."""
        return translation_scores(self.references, self.hypotheses)


@dataclass(frozen=True, slots=True)
class MeasuredTranslator:
    """The translations of one translator, by test set: of what people wrote, and captioned."""

    written: Mapping[str, TranslatedSet]
    captioned: Mapping[str, TranslatedSet]

    def estimates(self, *, captioned: bool = False) -> dict[str, dict[str, Estimate]]:
        """Give every score with its interval, by test set and metric."""
        sets = self.captioned if captioned else self.written
        return {
            name: {score.name: estimate(score) for score in each.scores()}
            for name, each in sets.items()
        }


def measure_translator(
    translator: Translator, sets: Mapping[str, Sequence[SentencePair]]
) -> MeasuredTranslator:
    """Translate every test set in both manners."""
    return MeasuredTranslator(
        {name: translate_set(translator, pairs) for name, pairs in sets.items()},
        {name: translate_set(translator, pairs, captioned=True) for name, pairs in sets.items()},
    )


def translate_set(
    translator: Translator, pairs: Sequence[SentencePair], *, captioned: bool = False
) -> TranslatedSet:
    """Translate sources as they are, or as the captioner would have written them."""
    texts = [pair.source for pair in pairs]
    if captioned:
        texts = [as_captioned(text) or text for text in texts]
    return TranslatedSet(pairs, [found.text for found in translator.translate_texts(texts)])


def bleu_by_length(measured: MeasuredTranslator) -> tuple[LengthPoint, ...]:
    """Give BLEU by words of the source, over all test sets; classes of few sentences are left out.

    Bahdanau et al. 2015, figure 2.
    """
    sets = measured.written.values()
    pairs = [pair for each in sets for pair in each.pairs]
    hypotheses = [text for each in sets for text in each.hypotheses]
    whole = translation_bleu([pair.target for pair in pairs], hypotheses)
    lengths = np.array([len(pair.source.split()) for pair in pairs])
    points = []
    for first, after in pairwise(_EDGES):
        chosen = np.flatnonzero((lengths >= first) & (lengths < after))
        if len(chosen) >= _LEAST_SENTENCES:
            score = Score.of(whole.name, whole.statistics[chosen], whole.of_sums)
            points.append(_point(score, lengths[chosen].tolist()))
    return tuple(points)


def _point(score: Score, lengths: Sequence[int]) -> LengthPoint:
    resamples = draw_resamples(len(lengths), SETTINGS.resamples, SETTINGS.seed)
    around = interval(score, resamples)
    return LengthPoint(
        shortest=min(lengths),
        longest=max(lengths),
        sentences=len(lengths),
        bleu=Estimate(
            value=round_value(score.value),
            low=round_value(around.low),
            high=round_value(around.high),
        ),
    )


def compare_translators(
    measured: Mapping[str, MeasuredTranslator],
) -> tuple[TranslationDifference, ...]:
    """Compare the translator with the best mean BLEU with each other one, on each test set.

    measured: by name, all of the same test sets; on the same resamples (Koehn 2004).
    """
    bleus = {
        name: {key: each.scores()[0] for key, each in found.written.items()}
        for name, found in measured.items()
    }
    means = {
        name: np.mean([score.value for score in each.values()]) for name, each in bleus.items()
    }
    best = max(means, key=lambda name: means[name])
    others = [name for name in bleus if name != best]
    return tuple(
        _difference(best, other, key, bleus[best][key], bleus[other][key])
        for other in others
        for key in bleus[best]
    )


def _difference(
    first: str, second: str, test_set: str, one: Score, other: Score
) -> TranslationDifference:
    found = compare(one, other, default_resamples(len(one.per_image)))
    return TranslationDifference(
        first=first,
        second=second,
        test_set=test_set,
        value=round(found.value, 4),
        low=round(found.interval.low, 4),
        high=round(found.interval.high, 4),
    )


def seconds_a_sentence(translator: Translator, texts: Sequence[str]) -> float:
    """Time the first sentences one at a time, after one that is not timed; the median."""
    seconds = []
    for text in (texts[0], *texts[:_TIMED]):
        begun = time.perf_counter()
        translator.translate_texts([text])
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds[1:]))
