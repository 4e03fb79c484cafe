"""BLEU (Papineni et al. 2002) and chrF (Popović 2015) of translations, by sacrebleu (Post 2018).

Cased, with sacrebleu's own tokenization. Values lie in [0, 1]. Knows no models.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from evaluation.metrics.score import Score, Values

__all__ = ["signatures", "translation_bleu", "translation_chrf", "translation_scores"]


def translation_bleu(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Score BLEU with one reference a sentence. Raises ValueError for other numbers of texts."""
    return _score("BLEU", BLEU(), references, hypotheses)


def translation_chrf(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Score chrF with one reference a sentence. Raises ValueError for other numbers of texts."""
    return _score("chrF", CHRF(), references, hypotheses)


def translation_scores(references: Sequence[str], hypotheses: Sequence[str]) -> list[Score]:
    """Score BLEU and chrF."""
    return [
        translation_bleu(references, hypotheses),
        translation_chrf(references, hypotheses),
    ]


def signatures() -> dict[str, str]:
    """Give sacrebleu's signature of each metric, with one reference: what makes scores alike."""
    named: dict[str, Metric] = {"BLEU": BLEU(), "chrF": CHRF()}
    for metric in named.values():
        metric.corpus_score(["a"], [["a"]])  # a signature says how many references there were
    return {name: str(metric.get_signature()) for name, metric in named.items()}


def _score(
    name: str, metric: Metric, references: Sequence[str], hypotheses: Sequence[str]
) -> Score:
    """Take sacrebleu's sums of each sentence, from which it computes the score of any of them."""
    if len(references) != len(hypotheses) or not references:
        raise ValueError(f"{len(references)} references for {len(hypotheses)} translations")
    statistics = metric._extract_corpus_statistics(hypotheses, [list(references)])
    return Score.of(name, np.array(statistics, dtype=float), partial(_of_sums, metric))


def _of_sums(metric: Metric, sums: Values) -> Values:
    """Compute the score (...) of summed statistics (..., S)."""
    rows = sums.reshape(-1, sums.shape[-1]).tolist()
    values = [metric._compute_score_from_stats(row).score / 100 for row in rows]
    return np.array(values).reshape(sums.shape[:-1])
