"""Words hidden in sentences, to be guessed (Devlin et al. 2019, section 3.1). Knows no model.

R sentences of T tokens, from bos to eos with pad behind.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.tokenizer import Vocabulary

__all__ = ["IGNORED", "MaskedWords", "hide_words", "mask_one_word", "mask_words"]

IGNORED = -100
"""The target where nothing is to be guessed, as `cross_entropy` has it."""

# Of the hidden words so many become [MASK], and so many another word; the rest stay.
_MASK_SHARE = 0.8
_RANDOM_SHARE = 0.1


class MaskedWords(NamedTuple):
    """Sentences with hidden words: ids (R, T), and targets (R, T), `IGNORED` elsewhere."""

    ids: Tensor
    targets: Tensor


def mask_words(
    ids: Tensor, share: float, *, mask_id: int, vocab_size: int, generator: torch.Generator
) -> MaskedWords:
    """Hide a share of the known words of each sentence (R, T), at least one where there is one.

    Of 100 hidden words 80 become [MASK], 10 another word, and 10 stay as they are.
    """
    words = _words(ids)
    draws = torch.rand(ids.shape, generator=generator).masked_fill(~words, 2.0)
    first = torch.zeros_like(words).scatter(1, draws.argmin(dim=1, keepdim=True), True)
    hidden = words & ((draws < share) | first)
    kinds = torch.rand(ids.shape, generator=generator)
    others = torch.randint(len(Vocabulary.specials), vocab_size, ids.shape, generator=generator)
    changed = torch.where(kinds < _MASK_SHARE, mask_id, ids)
    is_random = (kinds >= _MASK_SHARE) & (kinds < _MASK_SHARE + _RANDOM_SHARE)
    changed = torch.where(is_random, others, changed)
    return MaskedWords(torch.where(hidden, changed, ids), torch.where(hidden, ids, IGNORED))


def mask_one_word(ids: Tensor, *, mask_id: int, generator: torch.Generator) -> MaskedWords:
    """Put [MASK] for one known word of each sentence (R, T), all equally likely."""
    words = _words(ids)
    draws = torch.rand(ids.shape, generator=generator).masked_fill(~words, 2.0)
    first = torch.zeros_like(words).scatter(1, draws.argmin(dim=1, keepdim=True), True)
    hidden = words & first
    return MaskedWords(torch.where(hidden, mask_id, ids), torch.where(hidden, ids, IGNORED))


def hide_words(sentence: Sequence[int], hidden: Collection[int], mask_id: int) -> list[int]:
    """Put [MASK] for every word of a sentence that is one of `hidden`."""
    return [mask_id if word in hidden else word for word in sentence]


def _words(ids: Tensor) -> Tensor:
    """Tell which tokens are known words: (R, T) bool."""
    return ids >= len(Vocabulary.specials)
