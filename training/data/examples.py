"""Captioned photos as numbers, and the order in which a step takes them. Knows no model and
opens no picture."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from models.geometry import CellGrid
from models.tokenizer import Vocabulary, tokenize
from training.data.datasets import CaptionedImage
from training.data.flickr30k_entities import GroundedCaption, Phrase

__all__ = [
    "AttentionTargets",
    "Example",
    "epoch_batches",
    "flippable",
    "make_examples",
    "pad_captions",
    "seeded",
]

_SIDES = re.compile(r"\b(?:left|right)(?:most|wards?|y|ies|side|hand\w*)?\b", re.IGNORECASE)
_BUCKET_BATCHES = 40


@dataclass(frozen=True, slots=True)
class Example:
    """One photo for training: its captions as ids without bos and eos, and as the people wrote them
    (`texts`); `weight` is how often an epoch draws it; `grounding` has the phrases with boxes of
    each caption, in step with `captions`, or nothing at all where they are not known."""

    key: str
    path: Path | None
    captions: tuple[tuple[int, ...], ...]
    weight: float
    flippable: bool
    texts: tuple[str, ...] = ()
    source: str = ""  # the name of its set
    grounding: tuple[tuple[Phrase, ...], ...] = ()

    @property
    def longest(self) -> int:
        """Words of its longest caption."""
        return max(len(caption) for caption in self.captions)


def flippable(captions: Sequence[str]) -> bool:
    """Tell whether the mirrored picture would still be described truly: no caption says left or
    right."""
    return not any(_SIDES.search(caption) for caption in captions)


def make_examples(
    photos: Sequence[CaptionedImage],
    vocabulary: Vocabulary,
    weight: float,
    max_length: int,
    source: str = "",
    grounding: Mapping[str, tuple[GroundedCaption, ...]] | None = None,
) -> list[Example]:
    """Encode photos; captions without a known word are left out, and photos without a caption then.

    `grounding` is by the photos' keys; its captions are found by their tokens, in whatever order
    they stand.
    """
    examples = []
    for photo in photos:
        encoded = (tuple(vocabulary.encode(caption)[:max_length]) for caption in photo.captions)
        kept = [
            (ids, caption)
            for ids, caption in zip(encoded, photo.captions, strict=True)
            if any(each != vocabulary.unk_id for each in ids)
        ]
        if kept:
            captions, texts = zip(*kept, strict=True)
            phrases = _phrases(texts, (grounding or {}).get(photo.key, ()), max_length)
            mirrored = flippable(photo.captions)
            examples.append(
                Example(
                    photo.key,
                    photo.path,
                    captions,
                    weight,
                    mirrored,
                    photo.captions,
                    source,
                    phrases,
                )
            )
    return examples


def _phrases(
    texts: Sequence[str], grounded: Sequence[GroundedCaption], max_length: int
) -> tuple[tuple[Phrase, ...], ...]:
    """Find each caption's phrases, cut to `max_length` tokens; nothing at all where no caption
    is grounded."""
    if not grounded:
        return ()
    known = {caption.tokens: caption.phrases for caption in grounded}
    return tuple(
        tuple(
            phrase._replace(end=min(phrase.end, max_length))
            for phrase in known.get(tuple(tokenize(text)), ())
            if phrase.start < max_length
        )
        for text in texts
    )


def seeded(*parts: int) -> torch.Generator:
    """Give a generator that depends on `parts` alone, so that a resumed run draws what an
    unbroken one would."""
    seed = 0
    for part in parts:
        seed = (seed * 1_000_003 + part + 1) % (2**63 - 1)
    return torch.Generator().manual_seed(seed)


def epoch_batches(
    examples: Sequence[Example], batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    """Draw each photo `weight` times on average, shuffle, and batch photos of similar caption
    length together.

    Neighbors in length share a batch (within windows of 40 batches), so that little is spent on
    padding.
    """
    draws = torch.rand(len(examples), generator=generator).tolist()
    drawn = [
        index
        for index, (each, draw) in enumerate(zip(examples, draws, strict=True))
        for _ in range(int(each.weight + draw))
    ]
    order = [
        drawn[position] for position in torch.randperm(len(drawn), generator=generator).tolist()
    ]
    batches: list[list[int]] = []
    window = batch_size * _BUCKET_BATCHES
    for start in range(0, len(order), window):
        bucket = sorted(order[start : start + window], key=lambda index: examples[index].longest)
        batches += [
            bucket[first : first + batch_size] for first in range(0, len(bucket), batch_size)
        ]
    return [
        batches[position] for position in torch.randperm(len(batches), generator=generator).tolist()
    ]


class AttentionTargets(NamedTuple):
    """Where the maps of M words should lie: `positions` (M,) among the B * group * (T + 1)
    predicted words, row by row, and `shares` (M, L), each cell's share in the boxes of the word's
    phrase; every word has a cell in them."""

    positions: Tensor
    shares: Tensor

    def to(self, device: torch.device) -> "AttentionTargets":
        """Move both to a device."""
        return AttentionTargets(self.positions.to(device), self.shares.to(device))


def pad_captions(
    examples: Sequence[Example],
    group: int,
    generator: torch.Generator,
    grid: CellGrid | None = None,
) -> tuple[Tensor, AttentionTargets | None]:
    """Give ids (B, group, T + 2) with bos and eos, pad behind; `group` captions of each photo,
    drawn where it has more, rows of pad alone where it has fewer. With a grid: also where their
    words should be looked for.
    """
    drawn = [
        torch.randperm(len(each.captions), generator=generator).tolist()[:group]
        for each in examples
    ]
    chosen = [
        (photo, row, index)
        for photo, indices in enumerate(drawn)
        for row, index in enumerate(indices)
    ]
    length = max(len(examples[photo].captions[index]) for photo, _, index in chosen) + 2
    ids = torch.full((len(examples), group, length), Vocabulary.pad_id, dtype=torch.long)
    for photo, row, index in chosen:
        words = torch.tensor(
            [Vocabulary.bos_id, *examples[photo].captions[index], Vocabulary.eos_id]
        )
        ids[photo, row, : len(words)] = words
    if grid is None:
        return ids, None
    places = (
        ((photo * group + row) * (length - 1), examples[photo].grounding[index])
        for photo, row, index in chosen
        if examples[photo].grounding
    )
    return ids, _teach(places, grid)


def _teach(places: Iterable[tuple[int, Sequence[Phrase]]], grid: CellGrid) -> AttentionTargets:
    """Gather the words of captions, each given by the position of its first word and its phrases.

    Every word of a phrase that has boxes is to be looked for in all of them. The map of a row's
    step t, which reads ids[..., t], belongs to token t of the caption.
    """
    positions: list[int] = []
    shares = [torch.empty(0, grid.rows * grid.columns)]
    for first, phrases in places:
        for phrase in phrases:
            share = torch.from_numpy(grid.coverage(phrase.boxes))
            if share.any():  # else its boxes lie in the rim that no cell sees
                positions += range(first + phrase.start, first + phrase.end)
                shares.append(share.expand(phrase.end - phrase.start, -1))
    return AttentionTargets(torch.tensor(positions, dtype=torch.long), torch.cat(shares))
