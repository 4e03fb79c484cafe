"""Pairs as batches of ids: by tokens, of like length, in both manners of writing.

Knows no model and no files. B pairs, L source subwords, T target subwords.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sentencepiece
import torch
from torch import Tensor

from models.errors import ConfigError
from models.translation.network import pad_sentences
from models.translation.subwords import BOS, EOS, Subwords, as_captioned
from training.data.pairs import SentencePair

__all__ = ["Example", "PairBatch", "PairBatches", "encode_pairs", "token_batches"]

_BUCKET_BATCHES = 40
_SEED_LIMIT = 2**31


@dataclass(frozen=True, slots=True)
class Example:
    """A pair that is learnt from.

    source, captioned: as a person writes it, and as the captioner does; the same where the
        captioner would write nothing.
    size: subwords of the longer side, its end included.
    """

    source: str
    captioned: str
    target: str
    weight: float
    size: int


class PairBatch(NamedTuple):
    """Source ids (B, L) with eos, and target ids (B, T + 2) from bos to eos; pad behind."""

    source: Tensor
    target: Tensor

    def to(self, device: torch.device) -> "PairBatch":
        """Move both to a device."""
        return PairBatch(self.source.to(device), self.target.to(device))


def encode_pairs(
    pairs: Sequence[SentencePair], source: Subwords, target: Subwords, max_subwords: int
) -> list[Example]:
    """Measure pairs, and leave out those with more than `max_subwords` on one side.

    Raises ConfigError where none is left.
    """
    examples = []
    for pair in pairs:
        longest = max(len(source.encode(pair.source)), len(target.encode(pair.target)))
        if longest <= max_subwords:
            captioned = as_captioned(pair.source) or pair.source
            examples.append(Example(pair.source, captioned, pair.target, pair.weight, longest + 1))
    if not examples:
        raise ConfigError(f"Every pair has more than max_subwords, {max_subwords}.")
    return examples


def token_batches(
    examples: Sequence[Example], batch_tokens: int, generator: torch.Generator
) -> list[list[int]]:
    """Draw each pair `weight` times on average, shuffle, and batch pairs of like length.

    A batch has at most `batch_tokens` subwords on either side, padding included, or one pair.
    Neighbors in length share it (within windows of 40 batches), so that little is padding.
    """
    draws = torch.rand(len(examples), generator=generator).tolist()
    drawn: list[int] = []
    for index, (example, draw) in enumerate(zip(examples, draws, strict=True)):
        drawn += [index] * int(example.weight + draw)
    order = [drawn[place] for place in torch.randperm(len(drawn), generator=generator).tolist()]
    sizes = [examples[index].size for index in order]
    mean = max(sum(sizes) // max(len(sizes), 1), 1)
    window = max(batch_tokens * _BUCKET_BATCHES // mean, 1)
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        bucket = sorted(order[start : start + window], key=lambda index: examples[index].size)
        batches += _cut(bucket, examples, batch_tokens)
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def _cut(bucket: Sequence[int], examples: Sequence[Example], tokens: int) -> list[list[int]]:
    """Cut indices, shortest first, into batches."""
    batches: list[list[int]] = [[]]
    for index in bucket:
        if batches[-1] and examples[index].size * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


class PairBatches:
    """Makes batches of ids, with the same draws for the same generator."""

    def __init__(
        self,
        examples: Sequence[Example],
        source: Subwords,
        target: Subwords,
        *,
        captioned_share: float,
        sampling: float,
    ) -> None:
        """Take the pairs, and what is drawn of each.

        captioned_share: how often the source is read as the captioner writes.
        sampling: alpha of drawn segmentations; 0 takes the best one.
        """
        self.examples = examples
        self.source = source
        self.target = target
        self.captioned_share = captioned_share
        self.sampling = sampling

    def prepare(self, indices: Sequence[int], generator: torch.Generator) -> PairBatch:
        """Give the pairs `indices` as ids."""
        draws = torch.rand(len(indices), generator=generator).tolist()
        if self.sampling:
            seed = torch.randint(_SEED_LIMIT, (), generator=generator)
            sentencepiece.set_random_generator_seed(int(seed))
        sources, targets = [], []
        for index, draw in zip(indices, draws, strict=True):
            example = self.examples[index]
            text = example.captioned if draw < self.captioned_share else example.source
            sources.append([*self._encode(self.source, text), EOS])
            targets.append([BOS, *self._encode(self.target, example.target), EOS])
        return PairBatch(pad_sentences(sources), pad_sentences(targets))

    def _encode(self, subwords: Subwords, text: str) -> list[int]:
        return subwords.sample(text, self.sampling) if self.sampling else subwords.encode(text)
