"""Words and their numbers: one set of rules for training, evaluation and serving. Knows no tensors.

Rules, in order (each has a test):

1. Unicode is brought to NFKC, typographic apostrophes and hyphens to ' and -, and everything to
   lower case.
2. A clitic written apart is joined to its word: "man 's" -> "man's", "does n't" -> "doesn't".
3. A token is a run of letters and digits of any script with their accents and vowel signs, with
   single apostrophes or hyphens inside it ("t-shirt", "don't", "café"), or a number with its
   separators ("3,000", "2.5").
4. Everything else (punctuation, symbols, an apostrophe at an edge) separates tokens and is dropped.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from models.errors import CheckpointError, ConfigError

__all__ = ["Vocabulary", "tokenize"]

_PUNCTUATION = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u2010": "-", "\u2011": "-", "\u00ad": ""}
)
# Accents and vowel signs belong to the letter before them; variation selectors (the gap) choose
# between emoji.
_MARKS = "".join(
    chr(code)
    for code in (*range(0x300, 0xFE00), *range(0xFE20, 0xFE30))
    if unicodedata.category(chr(code)) in ("Mn", "Mc")
)
_CLITIC = re.compile(r"\s+(?='(?:s|re|ve|ll|d|m)\b)")
_LETTERS = rf"[^\W_]+(?:[{_MARKS}]+[^\W_]*)*"
_TOKEN = re.compile(rf"\d+(?:[.,]\d+)+|{_LETTERS}(?:['-]{_LETTERS})*")


def tokenize(text: str) -> list[str]:
    """Split a caption into lower-case tokens by the rules above; an empty list where it has none.

    Tokens joined by spaces split into the same tokens.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_PUNCTUATION)).translate(_PUNCTUATION)
    words = " ".join(_TOKEN.findall(_CLITIC.sub("", text.replace("`", "'").lower())))
    return words.replace(" n't", "n't").split()


class Vocabulary:
    """Tokens by id. Ids 0 to 3 are pad, bos, eos and unk; the words follow, most frequent first."""

    specials = ("<pad>", "<bos>", "<eos>", "<unk>")
    pad_id, bos_id, eos_id, unk_id = range(4)

    def __init__(self, words: Sequence[str]) -> None:
        """Take the words in the order of their ids, from 4 on.

        Raises CheckpointError where one occurs twice.
        """
        self.tokens: tuple[str, ...] = (*self.specials, *words)
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise CheckpointError(
                "The vocabulary names a word twice; take an undamaged vocab.json."
            )

    @classmethod
    def build(
        cls, captions: Iterable[str], min_count: int, *, text_only: Iterable[str] = ()
    ) -> "Vocabulary":
        """Build the vocabulary of captions, the most frequent words first, ties by spelling.

        It has every word that occurs at least `min_count` times in `captions` and `text_only`
        together, and at least once in `captions`: a word must have been seen with an image. Raises
        ConfigError where there is none.
        """
        seen = _count_words(captions)
        total = seen + _count_words(text_only)
        words = [word for word in seen if total[word] >= min_count]
        if not words:
            raise ConfigError(
                f"No word occurs {min_count} times; lower the count threshold or add captions."
            )
        return cls(sorted(words, key=lambda word: (-total[word], word)))

    def __len__(self) -> int:
        """Count every token, the four special ones included."""
        return len(self.tokens)

    @property
    def words(self) -> tuple[str, ...]:
        """The words alone, in the order of their ids from 4 on."""
        return self.tokens[len(self.specials) :]

    def ids(self, tokens: Iterable[str]) -> list[int]:
        """Look tokens up: their ids, that of unk for unknown ones."""
        return [self._ids.get(token, self.unk_id) for token in tokens]

    def encode(self, caption: str) -> list[int]:
        """Give the ids of a caption's tokens, unk for unknown words, without bos and eos."""
        return self.ids(tokenize(caption))

    def decode(self, token_ids: Iterable[int]) -> list[str]:
        """Give the words of ids up to the first eos; bos and pad are skipped."""
        words: list[str] = []
        for token_id in token_ids:
            if token_id == self.eos_id:
                break
            if token_id not in (self.pad_id, self.bos_id):
                words.append(self.tokens[token_id])
        return words


def _count_words(captions: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(tokenize(caption))
    return counts
