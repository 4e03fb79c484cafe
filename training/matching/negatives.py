"""Sentences that do not fit a photo: anybody else's, or the nearest ones by `nce`.

Knows no losses.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from evaluation.measures.retrieval import nearest_sentences, owners_of
from training.data.examples import Example

__all__ = ["NEAREST", "Mismatches"]

NEAREST = 100
"""How many of the nearest captions hard negatives are drawn from."""

_PART = 256

Place = tuple[int, int]  # an example, and one of its captions


class Mismatches:
    """Draws captions of other photos, for each photo of the examples."""

    def __init__(
        self, examples: Sequence[Example], pictures: Tensor, sentences: Tensor, count: int = NEAREST
    ) -> None:
        """Look for the nearest captions of each photo.

        pictures: (P, J), of the examples. sentences: (S, J), of all their captions in order.
        """
        self.places: list[Place] = [
            (number, caption)
            for number, example in enumerate(examples)
            for caption in range(len(example.captions))
        ]
        owners = owners_of([len(example.captions) for example in examples])
        count = min(count, len(owners) - 1)
        parts = []
        for start in range(0, len(pictures), _PART):
            similarity = (pictures[start : start + _PART] @ sentences.T).numpy()
            parts.append(torch.from_numpy(nearest_sentences(similarity, owners - start, count)))
        self.nearest = torch.cat(parts)

    def draw(self, number: int, *, hard: bool, generator: torch.Generator) -> Place:
        """Draw a caption of another photo than example `number`, near or any."""
        if hard:
            row = self.nearest[number]
            return self.places[int(row[_draw(len(row), generator)])]
        while True:
            place = self.places[_draw(len(self.places), generator)]
            if place[0] != number:
                return place


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator).item())
