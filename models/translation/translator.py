"""The translator: words of one language in, a sentence of another out, and what came from what.

It computes through a `TranslationRuntime` and knows no network and no files. Letters in shapes: see
`models.translation`; W words of the source sentence.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.array_features import Features
from models.config import DecodingOptions
from models.decoding import ScoredCaption, StepDecoder, decode
from models.translation.config import TranslationConfig
from models.translation.subwords import SourceWords, Subwords

__all__ = ["TranslatedWord", "Translation", "TranslationRuntime", "Translator"]

Floats = npt.NDArray[np.float32]

_BATCH_SIZE = 64
_LEAST_SHARE = 1e-8  # of words, where the alignment lies on the end of the source alone


class TranslationRuntime(Protocol):
    """What computes: sentences to features, and the decoder that the search steps through."""

    @property
    def decoder(self) -> StepDecoder[Any]:
        """What decoding steps through."""

    def encode(self, sentences: Sequence[list[int]]) -> Features:
        """Read sentences, as ids of subwords with eos."""


@dataclass(frozen=True, slots=True, eq=False)
class TranslatedWord:
    """One word of a translation, with the punctuation that is written to it.

    probability: the product of those of its subwords.
    alpha: (W,), how much of it came from each word of the source; sums to 1.
    """

    text: str
    probability: float
    alpha: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Translation:
    """A sentence in the target language.

    sum_logprob: natural log of its probability. avg_logprob: the mean of a subword's, eos included.
    """

    text: str
    words: tuple[TranslatedWord, ...]
    sum_logprob: float
    avg_logprob: float


class Translator:
    """A model that translates sentences through a runtime."""

    def __init__(
        self,
        runtime: TranslationRuntime,
        config: TranslationConfig,
        source: Subwords,
        target: Subwords,
    ) -> None:
        """Take the parts of a model."""
        self.config = config
        self._runtime = runtime
        self._source = source
        self._target = target

    def translate_texts(
        self, texts: Sequence[str], options: DecodingOptions | None = None
    ) -> list[Translation]:
        """Translate texts, whose words stand between spaces; see `translate`."""
        return self.translate([text.split() for text in texts], options)

    def translate(
        self, sentences: Sequence[Sequence[str]], options: DecodingOptions | None = None
    ) -> list[Translation]:
        """Translate sentences of words, in order: the best translation of each.

        options: instead of the model's own. Raises OptionsError.
        """
        chosen = options or self.config.decoding
        sources = [self._source.encode_words(words) for words in sentences]
        order = sorted(range(len(sources)), key=lambda place: len(sources[place].token_ids))
        found: dict[int, Translation] = {}
        for places in _chunks(order):
            features = self._runtime.encode([sources[place].token_ids for place in places])
            results = decode(self._runtime.decoder, features, chosen)
            for place, result in zip(places, results, strict=True):
                words = len(sentences[place])
                found[place] = self._describe(result.captions[0], sources[place], words)
        return [found[place] for place in range(len(sources))]

    def _describe(self, best: ScoredCaption, source: SourceWords, words: int) -> Translation:
        """Turn subwords and their maps into words and theirs."""
        ids = list(best.token_ids)
        shares = _shares_of_words(best.alphas, source.owners, words)  # (T, W)
        described = []
        for positions in self._target.group(ids):
            text = self._target.decode([ids[position] for position in positions])
            if text:
                probability = math.exp(min(float(best.logprobs[positions].sum()), 0.0))
                alpha = shares[positions].mean(axis=0)
                described.append(TranslatedWord(text, probability, alpha))
        return Translation(
            self._target.decode(ids), tuple(described), best.sum_logprob, best.avg_logprob
        )


def _shares_of_words(alphas: Floats, owners: Sequence[int], words: int) -> Floats:
    """Sum maps over source subwords (T, L) to maps over source words (T, W), which sum to 1.

    What lies on the end of the source belongs to no word.
    """
    shares = np.full((len(alphas), words), _LEAST_SHARE, dtype=np.float32)
    for position, word in enumerate(owners):
        shares[:, word] += alphas[:, position]
    normalized: Floats = shares / shares.sum(axis=1, keepdims=True)
    return normalized


def _chunks(order: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(order), _BATCH_SIZE):
        yield order[start : start + _BATCH_SIZE]
