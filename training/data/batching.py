"""Examples in batches: which images a step takes, and their captions as padded ids.

Knows no model and opens no image.

B images, G captions of each, T words of the longest, L cells of the grid, M words.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.geometry import CellGrid
from models.tokenizer import Vocabulary
from training.data.examples import Example
from training.data.flickr30k_entities import Phrase

__all__ = ["AttentionTargets", "epoch_batches", "pad_captions", "seeded"]

_BUCKET_BATCHES = 40


class AttentionTargets(NamedTuple):
    """Where the maps of M words should lie.

    positions (M,): of the words among the B * G * (T + 1) predicted ones, row by row.
    shares (M, L): each cell's share in the boxes of the word's phrase, at least one above zero.
    """

    positions: Tensor
    shares: Tensor

    def to(self, device: torch.device) -> "AttentionTargets":
        """Move both to a device."""
        return AttentionTargets(self.positions.to(device), self.shares.to(device))


def seeded(*parts: int) -> torch.Generator:
    """Give a generator that depends on `parts` alone.

    So a resumed run draws what an unbroken one would.
    """
    seed = 0
    for part in parts:
        seed = (seed * 1_000_003 + part + 1) % (2**63 - 1)
    return torch.Generator().manual_seed(seed)


def epoch_batches(
    examples: Sequence[Example], batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    """Draw each image `weight` times on average, shuffle, and batch images of like length.

    Neighbors in length share a batch (within windows of 40 batches), so that little is spent on
    padding.
    """
    draws = torch.rand(len(examples), generator=generator).tolist()
    drawn: list[int] = []
    for index, (example, draw) in enumerate(zip(examples, draws, strict=True)):
        drawn += [index] * int(example.weight + draw)
    order = [drawn[place] for place in torch.randperm(len(drawn), generator=generator).tolist()]
    batches: list[list[int]] = []
    window = batch_size * _BUCKET_BATCHES
    for start in range(0, len(order), window):
        bucket = sorted(order[start : start + window], key=lambda index: examples[index].longest)
        for first in range(0, len(bucket), batch_size):
            batches.append(bucket[first : first + batch_size])
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def pad_captions(
    examples: Sequence[Example],
    group: int,
    generator: torch.Generator,
    grid: CellGrid | None = None,
) -> tuple[Tensor, AttentionTargets | None]:
    """Give the captions of a batch as ids (B, G, T + 2) from bos to eos, with pad behind.

    Of each image `group` captions, drawn where it has more; rows of pad alone where it has fewer.
    grid: give also where the maps of these captions' words should lie on it.
    """
    chosen: list[tuple[int, int, int]] = []  # the image's place in the batch, row, caption
    for image, example in enumerate(examples):
        order = torch.randperm(len(example.captions), generator=generator).tolist()
        chosen += [(image, row, caption) for row, caption in enumerate(order[:group])]
    length = max(len(examples[image].captions[caption]) for image, _, caption in chosen) + 2
    ids = torch.full((len(examples), group, length), Vocabulary.pad_id, dtype=torch.long)
    grounded: list[tuple[int, Sequence[Phrase]]] = []
    for image, row, caption in chosen:
        words = [Vocabulary.bos_id, *examples[image].captions[caption], Vocabulary.eos_id]
        ids[image, row, : len(words)] = torch.tensor(words)
        if examples[image].grounding:
            first = (image * group + row) * (length - 1)
            grounded.append((first, examples[image].grounding[caption]))
    return ids, None if grid is None else _attention_targets(grounded, grid)


def _attention_targets(
    captions: Iterable[tuple[int, Sequence[Phrase]]], grid: CellGrid
) -> AttentionTargets:
    """Gather the words of captions, each given by the position of its first word and its phrases.

    The map of every word of a phrase should lie on all boxes of the phrase. The map of a row's
    step t, which reads ids[..., t], belongs to token t of the caption.
    """
    positions: list[int] = []
    shares = [torch.empty(0, grid.rows * grid.columns)]
    for first, phrases in captions:
        for phrase in phrases:
            share = torch.from_numpy(grid.coverage(phrase.boxes))
            if share.any():  # else its boxes lie in the rim that no cell sees
                positions += range(first + phrase.start, first + phrase.end)
                shares.append(share.expand(phrase.end - phrase.start, -1))
    return AttentionTargets(torch.tensor(positions, dtype=torch.long), torch.cat(shares))
