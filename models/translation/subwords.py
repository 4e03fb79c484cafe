"""Subwords and their numbers, by SentencePiece (Kudo and Richardson 2018). Knows no tensors.

A subword that begins a word starts with U+2581; what follows it up to the next such subword belongs
to the same word. Ids 0 to 3 are pad, bos, eos and unk, as the search has them.
"""

import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sentencepiece

from models.errors import CheckpointError, ConfigError
from models.tokenizer import tokenize

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "UNK",
    "SourceWords",
    "Subwords",
    "as_captioned",
    "learn_subwords",
]

PAD, BOS, EOS, UNK = range(4)
_WORD = "\u2581"


class SourceWords(NamedTuple):
    """A sentence as a translator reads it.

    token_ids: its subwords, and eos. owners: the word that each subword but eos belongs to.
    """

    token_ids: list[int]
    owners: list[int]


class Subwords:
    """One vocabulary of subwords: text to ids and back."""

    def __init__(self, content: bytes) -> None:
        """Take a SentencePiece model's bytes. Raises CheckpointError where they are none."""
        self.content = content
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=content)
        except (RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError("The subwords are no SentencePiece model.") from error
        ids = (self._model.pad_id(), self._model.bos_id(), self._model.eos_id())
        if (*ids, self._model.unk_id()) != (PAD, BOS, EOS, UNK):
            raise CheckpointError("The subwords' first ids are not pad, bos, eos and unk.")

    def __len__(self) -> int:
        """Count the subwords, the four special ones included."""
        return int(self._model.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """Give the ids of a text's subwords, without bos and eos."""
        ids: list[int] = self._model.encode(text)
        return ids

    def sample(self, text: str, alpha: float) -> list[int]:
        """Give ids of one segmentation of the text, drawn (Kudo 2018, section 3).

        alpha: of the unigram model, how much likelier ones are preferred; of BPE, the share of
        merges that are left out (Provilkov et al. 2020).
        """
        ids: list[int] = self._model.encode(text, enable_sampling=True, nbest_size=-1, alpha=alpha)
        return ids

    def encode_words(self, words: Sequence[str]) -> SourceWords:
        """Give the subwords of words, each segmented by itself, and eos.

        They are those of the words joined by spaces, as no subword reaches over a space.
        """
        token_ids: list[int] = []
        owners: list[int] = []
        for number, word in enumerate(words):
            pieces = self.encode(word)
            token_ids += pieces
            owners += [number] * len(pieces)
        return SourceWords([*token_ids, EOS], owners)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Give the text of ids."""
        text: str = self._model.decode([each for each in token_ids if each > UNK])
        return text

    def group(self, token_ids: Sequence[int]) -> list[list[int]]:
        """Give the positions of the ids of each word, in order."""
        groups: list[list[int]] = []
        for position, token_id in enumerate(token_ids):
            starts = self._model.id_to_piece(token_id).startswith(_WORD)
            if starts or not groups:
                groups.append([])
            groups[-1].append(position)
        return groups


def as_captioned(text: str) -> str:
    """Write a sentence as the captioner would: lower case, no punctuation."""
    return " ".join(tokenize(text))


def learn_subwords(
    lines: Iterable[str], size: int, *, kind: str = "unigram", coverage: float = 1.0
) -> Subwords:
    """Learn a vocabulary of `size` subwords, the four special ones included.

    kind: unigram (Kudo 2018) or bpe (Sennrich et al. 2016).
    coverage: the share of characters that have a subword, below 1 for scripts with thousands.
    Raises ConfigError where the lines have too few or too many different subwords.
    """
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=written,
            vocab_size=size,
            model_type=kind,
            character_coverage=coverage,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNK,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"No vocabulary of {size} subwords can be made of these lines: choose another size "
            f"({error})."
        ) from error
    return Subwords(written.getvalue())
