"""BLEU-1 to BLEU-4 (Papineni et al. 2002), equal to pycocoevalcap's. Knows no images and no models.

Values lie in [0, 1].
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from evaluation.metrics.score import Score, Values
from evaluation.metrics.texts import ORDERS, Ngram, Text, check_texts, ngrams, split_words

__all__ = ["bleu"]

# The reference's guards against dividing by zero.
_SMALL = 1e-9
_TINY = 1e-15


def bleu(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> list[Score]:
    """Score BLEU-1 to BLEU-4 with the closest reference length."""
    check_texts(references, hypotheses)
    pairs = zip(references, hypotheses, strict=True)
    counts = np.array([_count(texts, text) for texts, text in pairs], float)
    orders = range(1, ORDERS + 1)
    return [Score.of(f"BLEU-{order}", counts, partial(_of_sums, order)) for order in orders]


def _count(references: Sequence[Text], hypothesis: Text) -> list[int]:
    """Count for one image.

    The counts are: words of the hypothesis; words of the closest reference; for each order, the
    n-grams that are right; for each order, all n-grams.
    """
    words = split_words(hypothesis)
    most: Counter[Ngram] = Counter()
    lengths = []
    for reference in map(split_words, references):
        most |= Counter(ngrams(reference))
        lengths.append(len(reference))
    correct = [0] * ORDERS
    for ngram, count in Counter(ngrams(words)).items():
        correct[len(ngram) - 1] += min(count, most[ngram])
    guessed = [max(0, len(words) - shorter) for shorter in range(ORDERS)]
    _, closest = min((abs(length - len(words)), length) for length in lengths)
    return [len(words), closest, *correct, *guessed]


def _of_sums(order: int, sums: Values) -> Values:
    """Compute BLEU (...) from summed counts (..., 2 + 2 orders)."""
    ratio = (sums[..., 0] + _TINY) / (sums[..., 1] + _SMALL)
    correct = sums[..., 2 : 2 + order]
    guessed = sums[..., 2 + ORDERS : 2 + ORDERS + order]
    product: Values = ((correct + _TINY) / (guessed + _SMALL)).prod(axis=-1)
    return np.asarray(np.exp(np.minimum(0.0, 1 - 1 / ratio)) * product ** (1 / order))
