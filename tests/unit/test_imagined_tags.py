"""Tags imagined for captions without a photo: of what the words name, with a tagger's mistakes."""

import torch

from models.array_features import WORDS_A_CLASS
from models.tagging.classes import FIRST_CONCEPT, class_word_ids, tag_classes
from models.tokenizer import Vocabulary
from tests.unit.seeing_toys import KNOWN
from training.data.batching import seeded
from training.data.imagined_tags import ImaginedTags

VOCABULARY = Vocabulary(KNOWN)
IMAGINED = ImaginedTags(class_word_ids(VOCABULARY))
NAMES = [each.name for each in tag_classes()]


def captions(*texts: str, times: int = 1) -> list[list[int]]:
    return [VOCABULARY.ids(text.split()) for text in texts] * times


def names_of(classes: torch.Tensor, scores: torch.Tensor) -> list[str]:
    return [
        NAMES[number]
        for number, score in zip(classes.tolist(), scores.tolist(), strict=True)
        if score > 0
    ]


def test_tags_are_mostly_of_what_the_words_name_and_sometimes_not() -> None:
    tags = IMAGINED.draw(captions("a cup of coffee", "a dog", times=400), seeded(1))

    found = [names_of(*pair) for pair in zip(tags.classes, tags.scores, strict=True)]
    cups = sum("cup" in names for names in found[::2]) / 400
    mistaken = sum("cup" in names for names in found[1::2]) / 400
    assert 0.85 < cups < 0.99  # "cup" and "coffee" both name it, and each may be overlooked
    assert 0.02 < mistaken < 0.3  # seen where the other caption was
    assert sum("espresso" in names for names in found[::2]) > 10


def test_tags_are_shaped_as_a_taggers() -> None:
    tags = IMAGINED.draw(captions("a dog and a cup of coffee", times=50), seeded(2))

    present = tags.present
    assert present.any()
    assert (tags.scores[present] <= 1).all()
    left, top, right, bottom = tags.boxes[present].unbind(dim=1)
    assert ((left >= 0) & (left <= right) & (right <= 1)).all()
    assert ((top >= 0) & (top <= bottom) & (bottom <= 1)).all()
    concepts = present & (tags.classes >= FIRST_CONCEPT)
    assert (tags.boxes[concepts] == torch.tensor([0.0, 0.0, 1.0, 1.0])).all()
    assert torch.equal(tags.places, torch.ones(*tags.scores.shape, 1))


def test_tags_depend_on_the_generator_alone_and_there_may_be_none() -> None:
    batch = captions("a dog", "on the", times=3)
    first, again = (IMAGINED.draw(batch, seeded(3)) for _ in range(2))
    other = IMAGINED.draw(batch, seeded(4))
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)
    nothing = IMAGINED.draw(captions("on the"), seeded(3))
    assert not nothing.present.any()
    assert not ImaginedTags([[0] * WORDS_A_CLASS] * 90).draw(batch, seeded(3)).present.any()
