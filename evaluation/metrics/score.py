"""How good captions are: BLEU-1 to 4, ROUGE-L, CIDEr-D and METEOR. Knows no pictures and no models.

Equal to pycocoevalcap, the reference implementation, on words as coco-caption makes them; all but
METEOR without Java. A caption is a text, which is split into words here, or a list of words, which
is taken as it is. BLEU, ROUGE-L and METEOR lie in [0, 1]; CIDEr-D in [0, 10], where the usual
values are around 0.6 (shown as 60).

Each metric is a function of sums over photos (a `Score` keeps what is summed), so that of any part
or resampled set of the photos it is one sum away.
"""

import logging
import math
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from evaluation.metrics.ptb_tokenizer import tokenize_ptb

__all__ = [
    "CiderD",
    "Score",
    "Text",
    "Values",
    "bleu",
    "cider_d",
    "mean_score",
    "meteor",
    "rouge_l",
    "score_captions",
    "tokenize_ptb",
]

Text = str | Sequence[str]
Ngram = tuple[str, ...]
Values = npt.NDArray[np.float64]

_ORDERS = 4  # n-grams of one to four words
_SMALL, _TINY = 1e-9, 1e-15  # the reference BLEU's guards against dividing by zero
_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0
_METEOR_NUMBERS = 23  # that its program tells of a photo
_METEOR_ALPHA, _METEOR_BETA, _METEOR_GAMMA, _METEOR_DELTA = 0.85, 0.2, 0.6, 0.75  # of English
_METEOR_MATCHERS = (1.0, 0.6, 0.8, 0.6)  # exact, stem, synonym, paraphrase
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """One metric over a set of photos: of the whole set, of each photo in order, and what to sum
    for other sets."""

    name: str
    value: float
    per_photo: tuple[float, ...]
    statistics: Values = field(compare=False, repr=False)
    of_sums: Callable[[Values], Values] = field(compare=False, repr=False)

    @classmethod
    def of(cls, name: str, statistics: Values, of_sums: Callable[[Values], Values]) -> Self:
        """Score photos with statistics (photos, S), of whose sums (..., S) over photos `of_sums`
        makes the metric."""
        whole = of_sums(statistics.sum(axis=0))
        return cls(name, float(whole), tuple(of_sums(statistics).tolist()), statistics, of_sums)

    def part(self, photos: slice) -> Self:
        """Score some of the photos."""
        return self.of(self.name, self.statistics[photos], self.of_sums)


def mean_score(name: str, values: Iterable[float | None]) -> Score:
    """Score by the mean over photos; one with None does not count."""
    pairs = [(0.0, 0.0) if value is None else (value, 1.0) for value in values]
    return Score.of(name, np.array(pairs), _mean)


def _mean(sums: Values) -> Values:
    totals, counts = sums[..., 0], sums[..., 1]
    means: Values = np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0)
    return means


def bleu(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> list[Score]:
    """Score BLEU-1 to BLEU-4 with the closest reference length (Papineni et al. 2002)."""
    _check(references, hypotheses)
    counts = np.array(
        [_bleu_counts(texts, text) for texts, text in zip(references, hypotheses, strict=True)],
        float,
    )
    return [
        Score.of(f"BLEU-{n + 1}", counts, partial(_bleu_of_sums, n + 1)) for n in range(_ORDERS)
    ]


def _bleu_counts(references: Sequence[Text], hypothesis: Text) -> list[int]:
    """Count for one photo: its words, those of the closest reference, and for each order n-grams
    right and guessed."""
    words = _words(hypothesis)
    most: Counter[Ngram] = Counter()
    lengths = []
    for reference in map(_words, references):
        most |= Counter(_ngrams(reference))
        lengths.append(len(reference))
    correct = [0] * _ORDERS
    for ngram, count in Counter(_ngrams(words)).items():
        correct[len(ngram) - 1] += min(count, most[ngram])
    closest = min((abs(length - len(words)), length) for length in lengths)[1]
    return [len(words), closest, *correct, *(max(0, len(words) - n) for n in range(_ORDERS))]


def _bleu_of_sums(order: int, sums: Values) -> Values:
    """Turn summed counts (..., 2 + 2 orders) into BLEU (...)."""
    ratio = (sums[..., 0] + _TINY) / (sums[..., 1] + _SMALL)
    correct, guessed = sums[..., 2 : 2 + order], sums[..., 2 + _ORDERS : 2 + _ORDERS + order]
    product: Values = ((correct + _TINY) / (guessed + _SMALL)).prod(axis=-1)
    return np.asarray(np.exp(np.minimum(0.0, 1 - 1 / ratio)) * product ** (1 / order))


def rouge_l(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> Score:
    """Score ROUGE-L (Lin 2004): the F-measure, beta 1.2, of the best precision and best recall
    over the references."""
    _check(references, hypotheses)
    return mean_score("ROUGE-L", map(_rouge, references, hypotheses))


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
            current.append(
                previous[column] + 1
                if word == other
                else max(previous[column + 1], current[column])
            )
        previous = current
    return previous[-1]


class CiderD:
    """CIDEr-D (Vedantam et al. 2015) against one corpus of references, whose document frequencies
    are counted once.

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
        """Weigh each n-gram by term frequency times inverse document frequency; and the norm for
        each order."""
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
    """Score CIDEr-D with the document frequencies of these references, as pycocoevalcap's
    `Cider` does."""
    _check(references, hypotheses)
    scorer = CiderD(references)
    return mean_score(
        "CIDEr-D", (scorer.score(hypothesis, index) for index, hypothesis in enumerate(hypotheses))
    )


def meteor(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> Score | None:
    """Score METEOR 1.5 with the reference jar that pycocoevalcap carries; None where it or Java
    is not there."""
    _check(references, hypotheses)
    package = find_spec("pycocoevalcap")
    java = shutil.which("java")
    if package is None or not package.submodule_search_locations or java is None:
        return None
    jar = Path(package.submodule_search_locations[0]) / "meteor" / "meteor-1.5.jar"
    command = [
        java,
        "-Xmx2G",
        "-Dfile.encoding=UTF-8",
        "-jar",
        str(jar),
        "-",
        "-",
        "-stdio",
        "-l",
        "en",
        "-norm",
    ]
    lines = []
    for texts, text in zip(references, hypotheses, strict=True):
        fields = [" ".join(_tokens(caption)).replace("|||", "") for caption in [*texts, text]]
        lines.append(" ||| ".join(["SCORE", *fields]))
    try:
        statistics = _ask_meteor(command, lines)
    except (OSError, ValueError) as error:
        _logger.warning("METEOR is left out: its program failed (%s)", error)
        return None
    return Score.of("METEOR", statistics, _meteor_of_sums)


def _ask_meteor(command: list[str], lines: list[str]) -> Values:
    """Put a question a line to the program: statistics (photos, 23) of each caption with its best
    reference.

    The chunk of a caption that is its reference word for word is taken out, as the program does
    before it sums.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        answers = []
        for line in lines:
            program.stdin.write(f"{line}\n")
            program.stdin.flush()
            answers.append([float(number) for number in program.stdout.readline().split()])
        program.communicate()
    if any(len(answer) != _METEOR_NUMBERS for answer in answers):
        raise ValueError("its answers are not those of version 1.5")
    statistics = np.array(answers)
    perfect = (statistics[:, 21:] == statistics[:, :2]).all(axis=1) & (statistics[:, 20] == 1)
    statistics[perfect, 20] = 0
    return statistics


def _meteor_of_sums(sums: Values) -> Values:
    """Turn summed statistics (..., 23) into METEOR 1.5 (...), as its program does (Denkowski and
    Lavie 2014).

    0 to 3: words of the caption, of the reference, function words of each. 4 to 19: for each of the
    four matchers content and function words matched, of either side. 20: chunks. 21, 22: words
    matched, of either side.
    """
    words, function_words = sums[..., :2], sums[..., 2:4]
    matches = np.asarray(_METEOR_MATCHERS) @ sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    content = _METEOR_DELTA
    matched = (
        content * matches[..., :2] + (1 - content) * matches[..., 2:]
    )  # (..., 2): caption, reference
    lengths = content * (words - function_words) + (1 - content) * function_words
    some = np.logical_and(matched[..., 0] > 0, matched[..., 1] > 0)
    precision, recall = (
        np.divide(matched[..., k], lengths[..., k], out=np.ones(some.shape), where=some)
        for k in (0, 1)
    )
    mean = 1 / ((1 - _METEOR_ALPHA) / precision + _METEOR_ALPHA / recall)
    fragments = np.divide(
        sums[..., 20], sums[..., 21:].mean(axis=-1), out=np.zeros(some.shape), where=some
    )
    return np.where(some, mean * (1 - _METEOR_GAMMA * fragments**_METEOR_BETA), 0.0)


def score_captions(
    references: Sequence[Sequence[Text]], hypotheses: Sequence[Text], *, with_meteor: bool
) -> list[Score]:
    """Score all metrics, each with its value per photo. METEOR is absent where it cannot run or
    is not wanted."""
    _check(references, hypotheses)
    tokenized = [[_tokens(text) for text in texts] for texts in references]
    answers = [_tokens(text) for text in hypotheses]
    scores = [*bleu(tokenized, answers), rouge_l(tokenized, answers), cider_d(tokenized, answers)]
    last = meteor(tokenized, answers) if with_meteor else None
    return [*scores, last] if last else scores


def _check(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> None:
    if len(references) != len(hypotheses):
        raise ValueError(
            f"{len(references)} photos with references, but {len(hypotheses)} hypotheses"
        )
    if not references or not all(references):
        raise ValueError("there must be at least one photo, and a reference for each")


def _tokens(text: Text) -> list[str]:
    return tokenize_ptb(text) if isinstance(text, str) else list(text)


def _words(text: Text) -> list[str]:
    """Split a caption as the reference's BLEU and CIDEr-D do: they cut tokens with a space
    inside (`1 1/2`) in two."""
    return " ".join(_tokens(text)).split()


def _bigrams(words: Sequence[str]) -> int:
    """Count the bigrams: that is what the reference CIDEr-D takes for a caption's length."""
    return max(0, len(words) - 1)


def _ngrams(words: Sequence[str]) -> Iterable[Ngram]:
    return (
        tuple(words[i : i + n]) for n in range(1, _ORDERS + 1) for i in range(len(words) - n + 1)
    )
