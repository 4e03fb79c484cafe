"""The forms that a calibration may have, and how each is fitted to words and their usage.

`FORMS` lists them; `compare_forms` measures each on images that it was not fitted to. Knows no
captioner and no files.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from evaluation.measures.logistic import fit_logistic
from evaluation.measures.reliability import Values, measure, reliability
from evaluation.measures.usage import CaptionUsage
from models.calibration import CalibrationConfig, logit

__all__ = ["FORMS", "compare_forms", "pool_adjacent_violators"]

Fit = Callable[[Sequence[CaptionUsage]], CalibrationConfig]

_FOLDS = 5
_KNOTS = 32
# A word that the model says less often among the dev captions has no offset of its own.
_MIN_COUNT = 5
# Penalties of squares: the offset of a word shrinks towards that of all words.
_WORD_PENALTY = 1.0
_PENALTY = 1e-3


def compare_forms(usages: Sequence[CaptionUsage]) -> dict[str, dict[str, float]]:
    """Measure every form on the words of images that it was not fitted to, in five folds."""
    folds = (np.random.default_rng(0).permutation(len(usages)) % _FOLDS).tolist()
    _, _, shares = _columns(usages)
    return {name: measure(_held_out(fit, usages, folds), shares) for name, fit in FORMS.items()}


def _held_out(fit: Fit, usages: Sequence[CaptionUsage], folds: Sequence[int]) -> Values:
    """Give the confidences of all words, each by a fit to the other folds."""
    fitted = []
    for left_out in range(_FOLDS):
        kept = [each for each, fold in zip(usages, folds, strict=True) if fold != left_out]
        fitted.append(fit(kept))
    confidences: list[float] = []
    for each, fold in zip(usages, folds, strict=True):
        confidences += each.confidences(fitted[fold])
    return np.array(confidences)


def pool_adjacent_violators(values: Values, weights: Values) -> Values:
    """Give the non-decreasing sequence nearest to values (N,) in weighted least squares.

    This is isotonic regression: neighbors in the wrong order are replaced by their mean until none
    are left (Ayer et al. 1955). Weights are > 0.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            right, right_weight, right_length = blocks.pop()
            left, left_weight, left_length = blocks.pop()
            total = left_weight + right_weight
            mean = (left * left_weight + right * right_weight) / total
            blocks.append((mean, total, left_length + right_length))
    return np.repeat([mean for mean, _, _ in blocks], [length for _, _, length in blocks])


def _identity(_: Sequence[CaptionUsage]) -> CalibrationConfig:
    return CalibrationConfig()


def _temperature(usages: Sequence[CaptionUsage]) -> CalibrationConfig:
    _, logits, shares = _columns(usages)
    (slope,) = fit_logistic(logits[:, None], shares, np.full(1, _PENALTY))
    return CalibrationConfig(slope=max(round(slope, 4), 0.0))


def _platt(usages: Sequence[CaptionUsage]) -> CalibrationConfig:
    return _fit_offsets(usages, ())


def _words(usages: Sequence[CaptionUsage]) -> CalibrationConfig:
    counts: Counter[str] = Counter()
    for each in usages:
        counts.update(each.words)
    frequent = sorted(word for word, count in counts.items() if count >= _MIN_COUNT)
    return _fit_offsets(usages, frequent)


def _fit_offsets(usages: Sequence[CaptionUsage], known: Sequence[str]) -> CalibrationConfig:
    """Fit a slope, an offset, and one more offset for each known word, which shrinks to zero."""
    words, logits, shares = _columns(usages)
    column = {word: number for number, word in enumerate(known)}
    features = np.zeros((len(words), 2 + len(known)))
    features[:, 0] = logits
    features[:, 1] = 1.0
    for row, word in enumerate(words):
        if word in column:
            features[row, 2 + column[word]] = 1.0
    penalties = np.full(2 + len(known), _WORD_PENALTY)
    penalties[:2] = _PENALTY
    weights = fit_logistic(features, shares, penalties)
    if weights[0] < 0:
        # A surer model is never to be trusted less.
        features[:, 0] = 0.0
        weights = fit_logistic(features, shares, penalties)
    slope, offset, *offsets = weights
    return CalibrationConfig(
        slope=round(slope, 4),
        offset=round(offset, 4),
        words={word: round(each, 3) for word, each in zip(known, offsets, strict=True)},
    )


def _with_knots(fit: Fit) -> Fit:
    """Follow a fit by isotonic regression on what it gives."""

    def fit_both(usages: Sequence[CaptionUsage]) -> CalibrationConfig:
        calibration = fit(usages)
        scores: list[float] = []
        for each in usages:
            scores += each.confidences(calibration)
        _, _, shares = _columns(usages)
        bins = reliability(np.array(scores), shares, _KNOTS)
        fractions = pool_adjacent_violators(
            np.array([each.fraction for each in bins]),
            np.array([float(each.size) for each in bins]),
        ).round(4)
        confidences = [round(each.confidence, 4) for each in bins]
        corners = sorted(zip(confidences, fractions.tolist(), strict=True), reverse=True)
        # Of bins with the same confidence, the one with the lowest fraction comes last and stays.
        knots = dict(corners)
        return calibration.model_copy(update={"knots": tuple(sorted(knots.items()))})

    return fit_both


FORMS: dict[str, Fit] = {
    "as it is": _identity,
    "temperature": _temperature,
    "Platt": _platt,
    "isotonic": _with_knots(_identity),
    "words": _words,
    "words, isotonic": _with_knots(_words),
}
"""How a calibration may be fitted, in the order of their freedom."""


def _columns(usages: Sequence[CaptionUsage]) -> tuple[list[str], Values, Values]:
    """Give all words of the captions, the logits of their probabilities, and their usage."""
    words: list[str] = []
    logits: list[float] = []
    shares: list[float] = []
    for each in usages:
        words += each.words
        logits += map(logit, each.probabilities)
        shares += each.usage
    return words, np.array(logits), np.array(shares)
