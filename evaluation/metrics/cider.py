"""CIDEr-D (Vedantam et al. 2015), equal to pycocoevalcap's. Knows no images and no models.

Values lie in [0, 10]; usual ones are around 0.6, which is shown as 60.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from evaluation.metrics.score import Score, mean_score
from evaluation.metrics.texts import ORDERS, Ngram, Text, check_texts, ngrams, split_words

__all__ = ["CiderD", "cider_d"]

_SIGMA = 6.0


class CiderD:
    """CIDEr-D against one corpus of references, whose document frequencies are counted once.

    Fast enough to be a reward in training: thousands of hypotheses a second.
    """

    def __init__(self, references: Sequence[Sequence[Text]]) -> None:
        self._references = [[split_words(text) for text in texts] for texts in references]
        self._images_with: Counter[Ngram] = Counter()
        for texts in self._references:
            found: set[Ngram] = set()
            for words in texts:
                found.update(ngrams(words))
            self._images_with.update(found)
        self._log_images = math.log(len(references))
        self._reference = lru_cache(maxsize=1024)(self._build_reference)

    def score(self, hypothesis: Text, index: int) -> float:
        """Score one hypothesis against the references of image `index`; in [0, 10]."""
        words = split_words(hypothesis)
        weights, norms = self._weigh(words)
        lengths, reference_norms, entries = self._reference(index)
        sums = [[0.0] * ORDERS for _ in lengths]
        for ngram, weight in weights.items():
            for reference, other in entries.get(ngram, ()):
                sums[reference][len(ngram) - 1] += min(weight, other) * other
        total = 0.0
        for length, other_norms, products in zip(lengths, reference_norms, sums, strict=True):
            scale = math.exp(-((_bigrams(words) - length) ** 2) / (2 * _SIGMA**2))
            for product, norm, other_norm in zip(products, norms, other_norms, strict=True):
                if product:
                    total += scale * product / (norm * other_norm)
        return 10.0 * total / ORDERS / len(lengths)

    def _build_reference(self, index: int) -> "_Reference":
        entries: dict[Ngram, list[tuple[int, float]]] = {}
        norms = []
        for number, words in enumerate(self._references[index]):
            weights, norm = self._weigh(words)
            norms.append(norm)
            for ngram, weight in weights.items():
                entries.setdefault(ngram, []).append((number, weight))
        return _Reference([_bigrams(words) for words in self._references[index]], norms, entries)

    def _weigh(self, words: Sequence[str]) -> tuple[dict[Ngram, float], list[float]]:
        """Weigh each n-gram by tf-idf, and give the norm of the weights of each order."""
        weights: dict[Ngram, float] = {}
        squares = [0.0] * ORDERS
        for ngram, count in Counter(ngrams(words)).items():
            weight = count * (self._log_images - math.log(max(1, self._images_with[ngram])))
            weights[ngram] = weight
            squares[len(ngram) - 1] += weight * weight
        return weights, [math.sqrt(square) for square in squares]


class _Reference(NamedTuple):
    """The references of one image, inverted: where each n-gram occurs, and with what weight."""

    lengths: list[int]
    norms: list[list[float]]
    entries: dict[Ngram, list[tuple[int, float]]]


def cider_d(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> Score:
    """Score CIDEr-D with the document frequencies of these references.

    This is what pycocoevalcap's `Cider` computes.
    """
    check_texts(references, hypotheses)
    scorer = CiderD(references)
    values = (scorer.score(hypothesis, index) for index, hypothesis in enumerate(hypotheses))
    return mean_score("CIDEr-D", values)


def _bigrams(words: Sequence[str]) -> int:
    """Count the bigrams: what the reference CIDEr-D takes for a caption's length."""
    return max(0, len(words) - 1)
