"""Confidence that means something: fitted to what people said of the dev photos, measured on test
(docs/adr/0006).

The label of a word is the share of a photo's human captions that contain it: the same token, by
`models.tokenizer`, so that "dog" and "dogs", "man" and "boy" are different words. Knows how a
bundle's calibration is made, and no training.
"""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from evaluation.measures.attention_maps import Annotate
from evaluation.measures.reliability import BINS, Values, draw_curves, measure, reliability
from models.bundles.checkpoint import add_metrics
from models.calibration import (
    FUNCTION_WORDS,
    CalibrationConfig,
    caption_confidence,
    logit,
    word_confidence,
)
from models.caption import Hypothesis, ModelInfo
from models.captioner import NetworkCaptioner
from models.tokenizer import tokenize
from training.data.datasets import CaptionedImage

__all__ = [
    "FORMS",
    "Calibrated",
    "CaptionUsage",
    "calibrate",
    "caption_with_usage",
    "compare_forms",
    "describe",
    "pool_adjacent_violators",
    "save_calibration",
]

Fit = Callable[[Sequence["CaptionUsage"]], CalibrationConfig]
_BATCH_SIZE = 16
_FOLDS = 5
_KNOTS = 32
_MIN_COUNT = (
    5  # a word that the model says less often among the dev captions has no offset of its own
)
_WORD_PENALTY, _PENALTY = 1.0, 1e-3  # of squares: an offset shrinks towards that of all words
_NEWTON_STEPS, _SMALL_STEP = 25, 1e-8


@dataclass(frozen=True, slots=True)
class CaptionUsage:
    """A caption beside what people said of the photo.

    probabilities, usage: of each word, the model's own (given the picture and the words before it),
    and the share of the people who use the word. geometric_mean: of the probabilities of words and
    end, the confidence without a calibration. All in [0, 1].
    """

    words: tuple[str, ...]
    probabilities: tuple[float, ...]
    usage: tuple[float, ...]
    geometric_mean: float

    def confidences(self, calibration: CalibrationConfig) -> tuple[float, ...]:
        """The words' confidences under a calibration."""
        pairs = zip(self.words, self.probabilities, strict=True)
        return tuple(word_confidence(calibration, word, probability) for word, probability in pairs)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The calibration that dev chose, what was measured (ready for JSON), and the curve on test
    as an SVG."""

    calibration: CalibrationConfig
    metrics: dict[str, Any]
    curve: str


def caption_with_usage(
    captioner: NetworkCaptioner,
    photos: Sequence[CaptionedImage],
    advance: Callable[[int], Any],
    annotate: Annotate,
) -> list[CaptionUsage]:
    """Caption photos as the service does by default; `advance` is told how many were done.

    `annotate` gives the annotations (B, L, D) of photos, and raises DataError with the name of one
    that it cannot read.
    """
    heard: list[CaptionUsage] = []
    for start in range(0, len(photos), _BATCH_SIZE):
        batch = photos[start : start + _BATCH_SIZE]
        captions = captioner.caption_annotations(annotate(batch), captioner.info.config.decoding)
        heard += [
            _usage(caption.best, photo) for caption, photo in zip(captions, batch, strict=True)
        ]
        advance(len(batch))
    return heard


def _usage(hypothesis: Hypothesis, photo: CaptionedImage) -> CaptionUsage:
    said = [set(tokenize(text)) for text in photo.captions]
    words = tuple(word.text for word in hypothesis.words)
    return CaptionUsage(
        words=words,
        probabilities=tuple(word.probability for word in hypothesis.words),
        usage=tuple(sum(word in tokens for tokens in said) / len(said) for word in words),
        geometric_mean=min(math.exp(hypothesis.avg_logprob), 1.0),
    )


def calibrate(
    dev: Mapping[str, Sequence[CaptionUsage]], test: Mapping[str, Sequence[CaptionUsage]]
) -> Calibrated:
    """Fit each of FORMS to the dev sets by their names, take the best of them, and measure it on
    the test sets.

    The best has the lowest log-loss on dev photos that it was not fitted to; every photo counts the
    same.
    """
    known = list(chain.from_iterable(dev.values()))
    forms = compare_forms(known)
    chosen = min(forms, key=lambda name: forms[name]["log-loss"])
    calibration = FORMS[chosen](known)
    metrics = {
        "form": chosen,
        "fitted": {name: len(heard) for name, heard in dev.items()},
        "forms": forms,
        "bins": BINS,
        "sets": {
            name: {"photos": len(heard), **_measure(heard, calibration)}
            for name, heard in test.items()
        },
    }
    curves = _outcomes(list(chain.from_iterable(test.values())), calibration)
    panels = {
        title: {"before": reliability(before, usage), "after": reliability(after, usage)}
        for title, (before, after, usage) in curves.items()
        if title != "content words"
    }
    return Calibrated(calibration, metrics, draw_curves(panels))


def save_calibration(folder: Path, info: ModelInfo, calibrated: Calibrated) -> None:
    """Write a calibration into the bundle that `info` describes: config.json, metrics.json,
    SHA256SUMS, the curve.

    All is written beside the bundle's files and put in their place at the end: a kill before that
    changes nothing.
    """
    config = info.config.model_copy(update={"calibration": calibrated.calibration})
    with TemporaryDirectory(prefix=".calibration-", dir=folder) as temporary:
        whole = Path(temporary)
        for path in folder.iterdir():
            if path.is_file():
                shutil.copy(path, whole)
        (whole / "config.json").write_text(
            config.model_dump_json(indent=2) + "\n", encoding="utf-8"
        )
        (whole / "reliability.svg").write_text(calibrated.curve, encoding="utf-8")
        add_metrics(whole, {"calibration": calibrated.metrics})
        for name in ("reliability.svg", "config.json", "metrics.json", "SHA256SUMS"):
            (whole / name).replace(folder / name)


def describe(metrics: Mapping[str, Any]) -> str:
    """Put what was measured into Markdown, for the model card."""
    lines = [
        "A word's confidence is the probability that a person who describes the photo uses that "
        "word. A caption's is "
        "the share of its content words (no articles, prepositions, conjunctions, pronouns or "
        'forms of "be") that '
        "such a person is expected to use.",
        "",
        f"Form: {metrics['form']}. Fitted to "
        + ", ".join(f"{name} ({photos:,} photos)" for name, photos in metrics["fitted"].items())
        + f". Expected calibration error over {metrics['bins']} bins of equal count, before (the "
        "model's own "
        "probability; of a caption, its geometric mean) and after:",
        "",
        "| set | confidences | count | ECE before | ECE after | Brier before | Brier after |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, measured in metrics["sets"].items():
        for kind, row in measured.items():
            if kind != "photos":
                values = (
                    row[when][metric] for metric in ("ECE", "Brier") for when in ("before", "after")
                )
                lines.append(
                    f"| {name} | {kind} | {row['count']:,} | "
                    + " | ".join(f"{v:.3f}" for v in values)
                    + " |"
                )
    return "\n".join([*lines, "", "![reliability curve](reliability.svg)"])


def compare_forms(heard: Sequence[CaptionUsage]) -> dict[str, dict[str, float]]:
    """Measure every form on the words of photos that it was not fitted to: cross-validation, a
    fifth at a time."""
    fold = np.random.default_rng(0).permutation(len(heard)) % _FOLDS
    usage = np.array([share for each in heard for share in each.usage])
    measured = {}
    for name, fit in FORMS.items():
        fitted = [
            fit([each for each, its in zip(heard, fold, strict=True) if its != left_out])
            for left_out in range(_FOLDS)
        ]
        confidences = [each.confidences(fitted[its]) for each, its in zip(heard, fold, strict=True)]
        measured[name] = measure(np.array(list(chain.from_iterable(confidences))), usage)
    return measured


def _measure(heard: Sequence[CaptionUsage], calibration: CalibrationConfig) -> dict[str, Any]:
    return {
        title: {
            "count": len(usage),
            "before": measure(before, usage),
            "after": measure(after, usage),
        }
        for title, (before, after, usage) in _outcomes(heard, calibration).items()
    }


def _outcomes(
    heard: Sequence[CaptionUsage], calibration: CalibrationConfig
) -> dict[str, tuple[Values, Values, Values]]:
    """Confidences before and after, and what people did: of words, of the content words among
    them, of captions."""
    after = [each.confidences(calibration) for each in heard]
    words = np.array([
        (before, now, share, word not in FUNCTION_WORDS)
        for each, confidences in zip(heard, after, strict=True)
        for word, before, now, share in zip(
            each.words, each.probabilities, confidences, each.usage, strict=True
        )
    ])  # fmt: skip
    captions = np.array([
        (
            each.geometric_mean,
            caption_confidence(zip(each.words, confidences, strict=True)),
            caption_confidence(zip(each.words, each.usage, strict=True)),
        )
        for each, confidences in zip(heard, after, strict=True)
    ])  # fmt: skip
    content = words[words[:, 3] == 1]
    tables = {"words": words, "content words": content, "captions": captions}
    return {
        title: (table[:, 0], table[:, 1], table[:, 2])
        for title, table in tables.items()
        if len(table)
    }


def pool_adjacent_violators(values: Values, weights: Values) -> Values:
    """Give the non-decreasing sequence that is nearest to values (N,) in weighted least squares:
    isotonic regression.

    Neighbors in the wrong order are replaced by their mean until none are left (Ayer et al. 1955).
    Weights are > 0.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (left, left_weight, left_length), (right, right_weight, right_length) = blocks[-2:]
            total = left_weight + right_weight
            mean = (left * left_weight + right * right_weight) / total
            blocks[-2:] = [(mean, total, left_length + right_length)]
    return np.repeat([mean for mean, _, _ in blocks], [length for _, _, length in blocks])


def _identity(_: Sequence[CaptionUsage]) -> CalibrationConfig:
    return CalibrationConfig()


def _temperature(heard: Sequence[CaptionUsage]) -> CalibrationConfig:
    _, logits, usage = _columns(heard)
    (slope,) = _logistic(logits[:, None], usage, np.full(1, _PENALTY))
    return CalibrationConfig(slope=max(round(slope, 4), 0.0))


def _platt(heard: Sequence[CaptionUsage]) -> CalibrationConfig:
    return _by_offsets(heard, ())


def _words(heard: Sequence[CaptionUsage]) -> CalibrationConfig:
    counts = Counter(word for each in heard for word in each.words)
    return _by_offsets(heard, sorted(word for word, count in counts.items() if count >= _MIN_COUNT))


def _by_offsets(heard: Sequence[CaptionUsage], known: Sequence[str]) -> CalibrationConfig:
    """Fit a slope, an offset, and one more for each of the `known` words, which shrinks towards
    none."""
    words, logits, usage = _columns(heard)
    column = {word: number for number, word in enumerate(known)}
    features = np.zeros((len(words), 2 + len(known)))
    features[:, 0], features[:, 1] = logits, 1.0
    for row, word in enumerate(words):
        if word in column:
            features[row, 2 + column[word]] = 1.0
    penalties = np.array([_PENALTY, _PENALTY, *(_WORD_PENALTY for _ in known)])
    weights = _logistic(features, usage, penalties)
    if weights[0] < 0:  # a surer model is never to be trusted less
        features[:, 0] = 0.0
        weights = _logistic(features, usage, penalties)
    slope, offset, *offsets = weights
    return CalibrationConfig(
        slope=round(slope, 4),
        offset=round(offset, 4),
        words={word: round(each, 3) for word, each in zip(known, offsets, strict=True)},
    )


def _with_knots(fit: Fit) -> Fit:
    """Follow a fit by isotonic regression on what it gives."""

    def fit_both(heard: Sequence[CaptionUsage]) -> CalibrationConfig:
        calibration = fit(heard)
        scores = np.array([score for each in heard for score in each.confidences(calibration)])
        _, _, usage = _columns(heard)
        bins = reliability(scores, usage, _KNOTS)
        fractions = pool_adjacent_violators(
            np.array([each.fraction for each in bins]),
            np.array([float(each.size) for each in bins]),
        )
        corners = zip(
            [round(each.confidence, 4) for each in bins], fractions.round(4).tolist(), strict=True
        )
        knots = dict(
            sorted(corners, reverse=True)
        )  # of bins with the same score, the lowest fraction stays
        return calibration.model_copy(update={"knots": tuple(sorted(knots.items()))})

    return fit_both


# In the order of their freedom: how a calibration may be fitted.
FORMS: dict[str, Fit] = {
    "as it is": _identity,
    "temperature": _temperature,
    "Platt": _platt,
    "isotonic": _with_knots(_identity),
    "words": _words,
    "words, isotonic": _with_knots(_words),
}


def _columns(heard: Sequence[CaptionUsage]) -> tuple[list[str], Values, Values]:
    """All words of the captions, the logits of their probabilities, and their usage."""
    words = [word for each in heard for word in each.words]
    logits = np.array([logit(probability) for each in heard for probability in each.probabilities])
    return words, logits, np.array([share for each in heard for share in each.usage])


def _logistic(features: Values, fractions: Values, penalties: Values) -> list[float]:
    """Logistic regression of fractions (N,) on features (N, F) by Newton's method, with ridge
    penalties (F,)."""
    weights = np.zeros(features.shape[1])
    for _ in range(_NEWTON_STEPS):
        expected = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (fractions - expected) - penalties * weights
        curvature = (features.T * (expected * (1 - expected))) @ features + np.diag(penalties)
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if np.abs(step).max() < _SMALL_STEP:
            break
    return [float(weight) for weight in weights]
