"""The results of translators, typed: docs/translations.json is their dump. Measures nothing."""

from evaluation.records import Estimate, Record
from evaluation.results import BootstrapSettings

__all__ = [
    "LengthPoint",
    "TranslationDifference",
    "TranslationResults",
    "TranslatorRow",
]


class LengthPoint(Record):
    """BLEU of the sentences of `shortest` to `longest` words in the source."""

    shortest: int
    longest: int
    sentences: int
    bleu: Estimate


class TranslatorRow(Record):
    """What was measured of one translator.

    scores: by test set and metric, of sentences as people wrote them. captioned: the same of
    sentences as the captioner would have written them. by_length: over all test sets together.
    seconds: for a sentence, one at a time.
    """

    name: str
    target_language: str
    parameters: int
    digest: str
    scores: dict[str, dict[str, Estimate]]
    captioned: dict[str, dict[str, Estimate]]
    by_length: tuple[LengthPoint, ...]
    seconds: float


class TranslationDifference(Record):
    """How much more BLEU one translator has than another on a test set, in paired resamples."""

    first: str
    second: str
    test_set: str
    value: float
    low: float
    high: float

    @property
    def is_real(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


class TranslationResults(Record):
    """All of it. sizes: sentences of each test set. limit: how many of them at most, if not all."""

    signatures: dict[str, str]
    bootstrap: BootstrapSettings
    sizes: dict[str, int]
    rows: tuple[TranslatorRow, ...]
    differences: tuple[TranslationDifference, ...]
    limit: int | None = None
