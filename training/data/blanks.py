"""Boxes of photos that are hidden, and the words for what lay there. Knows no model.

Of a photo with phrases that have boxes (Flickr30k Entities) a phrase is drawn, and its head noun is
to be guessed: the last word of the phrase, as English has it. Of another photo, the surest object
that the detector found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from models.array_features import TagValues
from models.geometry import Box
from models.tagging.classes import FIRST_CONCEPT
from models.tokenizer import Vocabulary
from training.data.batching import seeded
from training.data.examples import Example

__all__ = ["Blank", "object_blank", "phrase_blank"]

# A smaller box shows too little to miss, a larger one leaves nothing to guess from.
_LEAST_AREA = 0.01
_MOST_AREA = 0.7


@dataclass(frozen=True, slots=True)
class Blank:
    """One hidden box of an example.

    caption: which of its captions is read beside the photo, with all `answers` masked.
    answers: ids of the words that people use for what lies there; the first is to be learnt.
    """

    example: int
    caption: int
    box: Box
    answers: tuple[int, ...]


def phrase_blank(number: int, example: Example, seed: int) -> Blank | None:
    """Draw a phrase with one box from an example's captions; None where there is none.

    Phrases of other captions with the same box say what else it is called.
    """
    named: dict[Box, list[tuple[int, int]]] = {}
    for caption, phrases in enumerate(example.grounding):
        for phrase in phrases:
            head = example.captions[caption][phrase.end - 1]
            if len(phrase.boxes) == 1 and head >= len(Vocabulary.specials):
                named.setdefault(Box(*phrase.boxes[0]), []).append((caption, head))
    fitting = {box: heads for box, heads in named.items() if _fits(box)}
    if not fitting:
        return None
    generator = seeded(seed, number)
    box = list(fitting)[_draw(len(fitting), generator)]
    heads = fitting[box]
    caption, head = heads[_draw(len(heads), generator)]
    answers = dict.fromkeys([head, *(each for _, each in heads)])
    return Blank(number, caption, box, tuple(answers))


def object_blank(
    number: int, example: Example, tags: TagValues, class_words: Sequence[Sequence[int]], seed: int
) -> Blank | None:
    """Take the surest object of an example's photo; None where no word is known for any.

    tags: of this photo alone, (1, W). class_words: the words of every class, padded.
    """
    scores: Mapping[int, float] = dict(enumerate(tags.scores[0].tolist()))
    for place in sorted(scores, key=lambda each: -scores[each]):
        kind = int(tags.classes[0][place])
        words = [each for each in class_words[kind] if each != Vocabulary.pad_id]
        box = Box(*tags.boxes[0][place].tolist())
        if scores[place] > 0 and kind < FIRST_CONCEPT and words and _fits(box):
            caption = _draw(len(example.captions), seeded(seed, number))
            return Blank(number, caption, box, tuple(words))
    return None


def _fits(box: Box) -> bool:
    area = (box.right - box.left) * (box.bottom - box.top)
    return _LEAST_AREA <= area <= _MOST_AREA


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator).item())
