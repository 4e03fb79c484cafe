"""How good captions are: BLEU-1 to 4, ROUGE-L, CIDEr-D and METEOR. Knows no pictures and no models.

Equal to pycocoevalcap, the reference implementation, on words as coco-caption makes them; all but METEOR without Java.
A caption is a text, which is split into words here, or a list of words, which is taken as it is. BLEU, ROUGE-L and
METEOR lie in [0, 1]; CIDEr-D in [0, 10], where the usual values are around 0.6 (shown as 60).
"""

import logging
import math
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from training.ptb_tokenizer import tokenise_ptb

__all__ = [
    "CiderD",
    "Score",
    "Text",
    "bleu",
    "cider_d",
    "evaluate_captions",
    "meteor",
    "rouge_l",
    "score_captions",
    "tokenise_ptb",
]

Text = str | Sequence[str]
Ngram = tuple[str, ...]

_ORDERS = 4  # n-grams of one to four words
_SMALL, _TINY = 1e-9, 1e-15  # the reference BLEU's guards against dividing by zero
_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """One metric over a set of photos: of the whole set, and of each photo in order."""

    name: str
    value: float
    per_photo: tuple[float, ...]


def bleu(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> list[Score]:
    """Score BLEU-1 to BLEU-4 with the closest reference length (Papineni et al. 2002)."""
    _check(references, hypotheses)
    counted = [_bleu_counts(texts, text) for texts, text in zip(references, hypotheses, strict=True)]
    total = _BleuCounts(
        length=sum(photo.length for photo in counted),
        closest=sum(photo.closest for photo in counted),
        correct=[sum(photo.correct[n] for photo in counted) for n in range(_ORDERS)],
        guessed=[sum(photo.guessed[n] for photo in counted) for n in range(_ORDERS)],
    )
    whole, single = _bleu_values(total), [_bleu_values(photo) for photo in counted]
    return [Score(f"BLEU-{n + 1}", whole[n], tuple(values[n] for values in single)) for n in range(_ORDERS)]


class _BleuCounts(NamedTuple):
    length: int
    closest: int
    correct: list[int]
    guessed: list[int]


def _bleu_counts(references: Sequence[Text], hypothesis: Text) -> _BleuCounts:
    words = _words(hypothesis)
    most: Counter[Ngram] = Counter()
    lengths = []
    for reference in map(_words, references):
        most |= Counter(_ngrams(reference))
        lengths.append(len(reference))
    correct = [0] * _ORDERS
    for ngram, count in Counter(_ngrams(words)).items():
        correct[len(ngram) - 1] += min(count, most[ngram])
    return _BleuCounts(
        length=len(words),
        closest=min((abs(length - len(words)), length) for length in lengths)[1],
        correct=correct,
        guessed=[max(0, len(words) - n) for n in range(_ORDERS)],
    )


def _bleu_values(counts: _BleuCounts) -> list[float]:
    ratio = (counts.length + _TINY) / (counts.closest + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    values, product = [], 1.0
    for n in range(_ORDERS):
        product *= (counts.correct[n] + _TINY) / (counts.guessed[n] + _SMALL)
        values.append(brevity * product ** (1 / (n + 1)))
    return values


def rouge_l(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> Score:
    """Score ROUGE-L (Lin 2004): the F-measure, beta 1.2, of the best precision and best recall over the references."""
    _check(references, hypotheses)
    values = [_rouge(texts, text) for texts, text in zip(references, hypotheses, strict=True)]
    return Score("ROUGE-L", sum(values) / len(values), tuple(values))


def _rouge(references: Sequence[Text], hypothesis: Text) -> float:
    words = _tokens(hypothesis) or [""]  # as the reference does: no words are one empty word
    others = [_tokens(reference) or [""] for reference in references]
    common = [_longest_common_subsequence(words, other) for other in others]
    precision = max(common) / len(words)
    recall = max(length / len(other) for length, other in zip(common, others, strict=True))
    if precision == 0.0 or recall == 0.0:
        return 0.0
    return (1 + _ROUGE_BETA**2) * precision * recall / (recall + _ROUGE_BETA**2 * precision)


def _longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    previous = [0] * (len(second) + 1)
    for word in first:
        current = [0]
        for column, other in enumerate(second):
            current.append(previous[column] + 1 if word == other else max(previous[column + 1], current[column]))
        previous = current
    return previous[-1]


class CiderD:
    """CIDEr-D (Vedantam et al. 2015) against one corpus of references, whose document frequencies are counted once.

    Quick enough to be a reward in training: thousands of hypotheses a second.
    """

    def __init__(self, references: Sequence[Sequence[Text]]) -> None:
        self._references = [[_words(text) for text in texts] for texts in references]
        self._photos_with: Counter[Ngram] = Counter()
        for texts in self._references:
            self._photos_with.update({ngram for words in texts for ngram in _ngrams(words)})
        self._log_photos = math.log(len(references))
        self._reference = lru_cache(maxsize=1024)(self._build_reference)

    def score(self, hypothesis: Text, index: int) -> float:
        """Score one hypothesis against the references of photo `index`; in [0, 10]."""
        words = _words(hypothesis)
        weights, norms = self._weigh(words)
        lengths, reference_norms, entries = self._reference(index)
        sums = [[0.0] * _ORDERS for _ in lengths]
        for ngram, weight in weights.items():
            for reference, other in entries.get(ngram, ()):
                sums[reference][len(ngram) - 1] += min(weight, other) * other
        total = 0.0
        for length, other_norms, products in zip(lengths, reference_norms, sums, strict=True):
            scale = math.exp(-((_bigrams(words) - length) ** 2) / (2 * _CIDER_SIGMA**2))
            for product, norm, other_norm in zip(products, norms, other_norms, strict=True):
                if product:
                    total += scale * product / (norm * other_norm)
        return 10.0 * total / _ORDERS / len(lengths)

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
        """Weigh each n-gram by term frequency times inverse document frequency; and the norm for each order."""
        weights: dict[Ngram, float] = {}
        squares = [0.0] * _ORDERS
        for ngram, count in Counter(_ngrams(words)).items():
            weight = count * (self._log_photos - math.log(max(1, self._photos_with[ngram])))
            weights[ngram] = weight
            squares[len(ngram) - 1] += weight * weight
        return weights, [math.sqrt(square) for square in squares]


class _Reference(NamedTuple):
    """One photo's references, turned over: where each n-gram occurs, and with what weight."""

    lengths: list[int]
    norms: list[list[float]]
    entries: dict[Ngram, list[tuple[int, float]]]


def cider_d(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> Score:
    """Score CIDEr-D with the document frequencies of these references, as pycocoevalcap's `Cider` does."""
    _check(references, hypotheses)
    scorer = CiderD(references)
    values = [scorer.score(hypothesis, index) for index, hypothesis in enumerate(hypotheses)]
    return Score("CIDEr-D", sum(values) / len(values), tuple(values))


def meteor(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> Score | None:
    """Score METEOR 1.5 with the reference jar that pycocoevalcap carries; None where it or Java is not there."""
    _check(references, hypotheses)
    package = find_spec("pycocoevalcap")
    java = shutil.which("java")
    if package is None or not package.submodule_search_locations or java is None:
        return None
    jar = Path(package.submodule_search_locations[0]) / "meteor" / "meteor-1.5.jar"
    command = [java, "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    lines = []
    for texts, text in zip(references, hypotheses, strict=True):
        fields = [" ".join(_tokens(caption)).replace("|||", "") for caption in [*texts, text]]
        lines.append(" ||| ".join(["SCORE", *fields]))
    try:
        values = _ask_meteor(command, lines)
    except (OSError, ValueError) as error:
        _logger.warning("METEOR is left out: its program failed (%s)", error)
        return None
    return Score("METEOR", values[-1], tuple(values[:-1]))


def _ask_meteor(command: list[str], lines: list[str]) -> list[float]:
    """Put one question a line to the program: the statistics of each photo, then the values of all and the whole."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        statistics = []
        for line in lines:
            program.stdin.write(f"{line}\n")
            program.stdin.flush()
            statistics.append(program.stdout.readline().strip())
        output, _ = program.communicate(" ||| ".join(["EVAL", *statistics]) + "\n")
    values = [float(line) for line in output.splitlines()]
    if len(values) != len(lines) + 1:
        raise ValueError(f"{len(values)} answers to {len(lines)} photos")
    return values


def score_captions(
    references: Sequence[Sequence[Text]], hypotheses: Sequence[Text], *, with_meteor: bool
) -> list[Score]:
    """Score all metrics, each with its value per photo. METEOR is absent where it cannot run or is not wanted."""
    _check(references, hypotheses)
    tokenised = [[_tokens(text) for text in texts] for texts in references]
    answers = [_tokens(text) for text in hypotheses]
    scores = [*bleu(tokenised, answers), rouge_l(tokenised, answers), cider_d(tokenised, answers)]
    last = meteor(tokenised, answers) if with_meteor else None
    return [*scores, last] if last else scores


def evaluate_captions(
    references: Sequence[Sequence[Text]], hypotheses: Sequence[Text], *, with_meteor: bool
) -> dict[str, float]:
    """Score all metrics over the whole set, by name: BLEU-1 to BLEU-4, ROUGE-L, CIDEr-D, and METEOR if it ran."""
    return {score.name: score.value for score in score_captions(references, hypotheses, with_meteor=with_meteor)}


def _check(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> None:
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} photos with references, but {len(hypotheses)} hypotheses")
    if not references or not all(references):
        raise ValueError("there must be at least one photo, and a reference for each")


def _tokens(text: Text) -> list[str]:
    return tokenise_ptb(text) if isinstance(text, str) else list(text)


def _words(text: Text) -> list[str]:
    """Split a caption as the reference's BLEU and CIDEr-D do: they cut tokens with a space inside (`1 1/2`) in two."""
    return " ".join(_tokens(text)).split()


def _bigrams(words: Sequence[str]) -> int:
    """Count the bigrams: that is what the reference CIDEr-D takes for a caption's length."""
    return max(0, len(words) - 1)


def _ngrams(words: Sequence[str]) -> Iterable[Ngram]:
    return (tuple(words[i : i + n]) for n in range(1, _ORDERS + 1) for i in range(len(words) - n + 1))
