"""Words as a matching model reads and guesses them: one table for both. Knows no pictures.

Letters in shapes: C classes of tags, P words of a class; the others as in `models`; here E is the
width of every layer.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.array_features import TAG_CLASSES, WORDS_A_CLASS
from models.tokenizer import Vocabulary

__all__ = ["SPECIALS", "WordTable", "pad_sentences"]

SPECIALS = ("[MASK]", "[IMG]", "[END]")
"""Tokens that the table has behind the vocabulary's; [CLS] and [SEP] are its <bos> and <eos>."""


class WordTable(nn.Module):
    """Token ids to vectors, and vectors back to words (Devlin et al. 2019, section 3.1).

    The same embedding reads and guesses, as in BERT; it may begin from a captioner's.
    """

    class_words: Tensor

    def __init__(self, vocab_size: int, embed_dim: int, width: int) -> None:
        """Build with random weights; the words of the tags' classes are still to be told."""
        super().__init__()
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size + len(SPECIALS), embed_dim)
        self.project = nn.Linear(embed_dim, width)
        self.transform = nn.Linear(width, embed_dim)
        self.normalise = nn.LayerNorm(embed_dim)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        # one more class, without words: `models.matching.regions.NO_CLASS`
        words = torch.zeros(TAG_CLASSES + 1, WORDS_A_CLASS, dtype=torch.long)
        self.register_buffer("class_words", words)
        nn.init.normal_(self.embedding.weight, std=embed_dim**-0.5)

    @property
    def mask_id(self) -> int:
        """The token that stands for a word that is to be guessed."""
        return self.vocab_size

    @property
    def image_id(self) -> int:
        """The token that stands where a region is."""
        return self.vocab_size + 1

    @property
    def end_id(self) -> int:
        """The token behind the last region."""
        return self.vocab_size + 2

    def begin_from(self, embedding: Tensor) -> None:
        """Take over the vocabulary's embedding (V, embed_dim), brought to this table's scale."""
        scale = self.embedding.weight.std() / embedding.std()
        with torch.no_grad():
            self.embedding.weight[: self.vocab_size] = embedding * scale

    def set_class_words(self, ids: Sequence[Sequence[int]]) -> None:
        """Tell the words of every class of tags: C rows of P token ids, padded with 0."""
        self.class_words[:TAG_CLASSES] = torch.tensor(ids)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Give the vectors of ids (...): (..., E)."""
        vectors: Tensor = self.project(self.embedding(token_ids))
        return vectors

    def name_classes(self, classes: Tensor) -> Tensor:
        """Give the mean vector of the words of each class (...): (..., E); zero without words."""
        ids = self.class_words[classes]  # (..., P)
        there = (ids != Vocabulary.pad_id).unsqueeze(-1)
        total = (self.embedding(ids) * there).sum(dim=-2)
        count = there.sum(dim=-2)
        vectors: Tensor = self.project(total / count.clamp(min=1)) * (count > 0)
        return vectors

    def guess(self, x: Tensor) -> Tensor:
        """Score every word of the vocabulary for x (..., E): logits (..., V)."""
        hidden = self.normalise(F.gelu(self.transform(x)))
        return F.linear(hidden, self.embedding.weight[: self.vocab_size], self.bias)


def pad_sentences(sentences: Sequence[Sequence[int]], max_words: int) -> Tensor:
    """Give sentences as ids (R, T) from bos to eos, with pad behind; cut to `max_words` words."""
    rows = [[Vocabulary.bos_id, *sentence[:max_words], Vocabulary.eos_id] for sentence in sentences]
    length = max(map(len, rows))
    return torch.tensor([row + [Vocabulary.pad_id] * (length - len(row)) for row in rows])
