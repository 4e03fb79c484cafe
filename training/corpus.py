"""Captioned photos as numbers, and the order in which a step takes them. Knows no model and opens no picture."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.tokenizer import Vocabulary
from training.data import Photo

__all__ = ["Example", "epoch_batches", "flippable", "make_examples", "pad_captions", "seeded"]

_SIDES = re.compile(r"\b(?:left|right)(?:most|wards?|y|ies|side|hand\w*)?\b", re.IGNORECASE)
_BUCKET_BATCHES = 40


@dataclass(frozen=True, slots=True)
class Example:
    """One photo for training: its captions as ids without bos and eos, and as the people wrote them (`texts`);
    `weight` is how often an epoch draws it."""

    key: str
    path: Path | None
    captions: tuple[tuple[int, ...], ...]
    weight: float
    flippable: bool
    texts: tuple[str, ...] = ()
    source: str = ""  # the name of its set

    @property
    def longest(self) -> int:
        """Words of its longest caption."""
        return max(len(caption) for caption in self.captions)


def flippable(captions: Sequence[str]) -> bool:
    """Tell whether the mirrored picture would still be described truly: no caption says left or right."""
    return not any(_SIDES.search(caption) for caption in captions)


def make_examples(
    photos: Sequence[Photo], vocabulary: Vocabulary, weight: float, max_length: int, source: str = ""
) -> list[Example]:
    """Encode photos; captions without a known word are left out, and photos without a caption then."""
    examples = []
    for photo in photos:
        encoded = (tuple(vocabulary.encode(caption)[:max_length]) for caption in photo.captions)
        captions = tuple(ids for ids in encoded if any(each != vocabulary.unk_id for each in ids))
        if captions:
            mirrored = flippable(photo.captions)
            examples.append(Example(photo.key, photo.path, captions, weight, mirrored, photo.captions, source))
    return examples


def seeded(*parts: int) -> torch.Generator:
    """Give a generator that depends on `parts` alone, so that a resumed run draws what an unbroken one would."""
    seed = 0
    for part in parts:
        seed = (seed * 1_000_003 + part + 1) % (2**63 - 1)
    return torch.Generator().manual_seed(seed)


def epoch_batches(examples: Sequence[Example], batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """Draw each photo `weight` times on average, shuffle, and batch photos of similar caption length together.

    Neighbours in length share a batch (within windows of 40 batches), so that little is spent on padding.
    """
    draws = torch.rand(len(examples), generator=generator).tolist()
    drawn = [
        index
        for index, (each, draw) in enumerate(zip(examples, draws, strict=True))
        for _ in range(int(each.weight + draw))
    ]
    order = [drawn[position] for position in torch.randperm(len(drawn), generator=generator).tolist()]
    batches: list[list[int]] = []
    window = batch_size * _BUCKET_BATCHES
    for start in range(0, len(order), window):
        bucket = sorted(order[start : start + window], key=lambda index: examples[index].longest)
        batches += [bucket[first : first + batch_size] for first in range(0, len(bucket), batch_size)]
    return [batches[position] for position in torch.randperm(len(batches), generator=generator).tolist()]


def pad_captions(examples: Sequence[Example], group: int, generator: torch.Generator) -> Tensor:
    """Give ids (B, group, T + 2) with bos and eos, pad behind; `group` captions of each photo, drawn where it has
    more, rows of pad alone where it has fewer."""
    chosen = [_draw(each.captions, group, generator) for each in examples]
    length = max(len(caption) for captions in chosen for caption in captions) + 2
    ids = torch.full((len(chosen), group, length), Vocabulary.pad_id, dtype=torch.long)
    for photo, row, caption in _numbered(chosen):
        words = torch.tensor([Vocabulary.bos_id, *caption, Vocabulary.eos_id])
        ids[photo, row, : len(words)] = words
    return ids


def _draw(captions: tuple[tuple[int, ...], ...], group: int, generator: torch.Generator) -> list[tuple[int, ...]]:
    order = torch.randperm(len(captions), generator=generator).tolist()
    return [captions[index] for index in order[:group]]


def _numbered(chosen: list[list[tuple[int, ...]]]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    for photo, captions in enumerate(chosen):
        for row, caption in enumerate(captions):
            yield photo, row, caption
