"""Tags for captions without a photo: the things that their words name, as if a tagger had found
them. So a decoder learns from many more captions than there are photos to say what tags tell it.

As a tagger does, it overlooks some things and sees others that are not there. Knows no model.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from models.features import Tags
from models.geometry import WHOLE_IMAGE, Box
from models.tagging.classes import FIRST_CONCEPT

__all__ = ["ImaginedTags"]

_MOST = 10
# How often a thing that is named is found as an object, where there is such a class, and as a
# concept; and how often one that another caption names is found instead.
_OBJECT_FOUND = 0.75
_CONCEPT_FOUND = 0.5
_MISTAKEN = 0.2
_LEAST_OBJECT_SCORE = 0.2
_LEAST_CONCEPT_SCORE = 0.03


class _Found(NamedTuple):
    number: int
    score: float
    box: Box


class ImaginedTags:
    """Imagines tags of captions, given as ids of words."""

    def __init__(self, class_words: Sequence[Sequence[int]]) -> None:
        """Take the ids of each class's words; 0 is no word."""
        self._objects: dict[int, list[int]] = defaultdict(list)
        self._concepts: dict[int, list[int]] = defaultdict(list)
        for number, words in enumerate(class_words):
            named = self._objects if number < FIRST_CONCEPT else self._concepts
            for word in filter(None, words):
                named[word].append(number)

    def draw(self, captions: Sequence[Sequence[int]], generator: torch.Generator) -> Tags:
        """Imagine the tags of each caption; their places are those of a grid of one cell."""
        seed = int(torch.randint(2**62, (1,), generator=generator))
        chance = random.Random(seed)
        rows = []
        for place, caption in enumerate(captions):
            found = [each for word in dict.fromkeys(caption) for each in self._find(word, chance)]
            for word in dict.fromkeys(captions[place - 1]):
                if chance.random() < _MISTAKEN:
                    found += self._find(word, chance)
            chance.shuffle(found)
            rows.append(_laid_out(islice(found, _MOST)))
        values = torch.stack(rows)  # (R, W, 6)
        classes, scores, boxes = values.split([1, 1, 4], dim=2)
        return Tags.pack(classes.squeeze(2), scores.squeeze(2), boxes, torch.ones_like(scores))

    def _find(self, word: int, chance: random.Random) -> Iterator[_Found]:
        """Find what a word names, or overlook it."""
        objects = self._objects.get(word)
        if objects and chance.random() < _OBJECT_FOUND:
            score = chance.uniform(_LEAST_OBJECT_SCORE, 1.0)
            yield _Found(chance.choice(objects), score, _box(chance))
        concepts = self._concepts.get(word)
        if concepts and chance.random() < _CONCEPT_FOUND:
            score = _LEAST_CONCEPT_SCORE + (1 - _LEAST_CONCEPT_SCORE) * chance.random() ** 2
            yield _Found(chance.choice(concepts), score, WHOLE_IMAGE)


def _box(chance: random.Random) -> Box:
    """Draw a box somewhere in the image."""
    left, right = sorted((chance.random(), chance.random()))
    top, bottom = sorted((chance.random(), chance.random()))
    return Box(left, top, right, bottom)


def _laid_out(found: Iterator[_Found]) -> Tensor:
    """Lay one caption's tags out as (W, 6): class, score, box; zeros where there are fewer."""
    rows = [[float(each.number), each.score, *each.box] for each in found]
    rows += [[0.0] * 6] * (_MOST - len(rows))
    return torch.tensor(rows)
