"""Boxes of photos that are hidden before the eyes see them, and the words for what lay there."""

import torch

from models.features import Tags
from models.geometry import Box
from training.data.augmentation import blank
from training.data.blanks import object_blank, phrase_blank
from training.data.examples import Example
from training.data.flickr30k_entities import Phrase

DOG = Box(0.1, 0.1, 0.5, 0.5)
SEA = Box(0.0, 0.0, 1.0, 1.0)


def example(grounding: tuple[tuple[Phrase, ...], ...]) -> Example:
    captions = ((4, 5, 6, 7), (8, 9))
    return Example("a", None, captions, 1.0, True, grounding=grounding)


def test_blank_hides_the_box_in_pixels_and_nothing_else() -> None:
    pixels = torch.full((2, 3, 10, 20), 200, dtype=torch.uint8)
    hidden = blank(pixels, [Box(0.25, 0.2, 0.5, 0.75), Box(0.0, 0.0, 1.0, 1.0)])
    assert (hidden[0, :, 2:8, 5:10] == 127).all()  # a pixel that is covered in part is hidden
    assert (hidden[0] == 127).sum() == 3 * 6 * 5
    assert (hidden[1] == 127).all()
    assert (pixels == 200).all()  # the image itself stays


def test_phrase_blank_asks_for_the_head_noun_and_takes_what_others_say() -> None:
    grounding = ((Phrase(0, 2, (DOG,)),), (Phrase(0, 1, (DOG,)),))
    found = phrase_blank(3, example(grounding), seed=0)
    assert found is not None
    assert found.box == DOG
    assert found.example == 3
    assert set(found.answers) == {5, 8}
    assert found.answers[0] == (5, 8)[found.caption]
    assert phrase_blank(3, example(grounding), seed=0) == found


def test_phrase_blank_leaves_out_large_boxes_pairs_and_unknown_words() -> None:
    large = Phrase(0, 1, (SEA,))
    several = Phrase(0, 1, (DOG, SEA))
    assert phrase_blank(0, example(((large, several), ())), seed=0) is None
    assert phrase_blank(0, example(()), seed=0) is None


def test_object_blank_takes_the_surest_object_that_has_words() -> None:
    classes = torch.tensor([[7, 2, 90]])
    scores = torch.tensor([[0.9, 0.6, 0.8]])
    boxes = torch.tensor([list(DOG)]).expand(1, 3, 4)
    tags = Tags.pack(classes, scores, boxes, torch.zeros(1, 3, 4))
    words = [[0, 0]] * 100
    words[2] = [11, 0]
    words[90] = [12, 0]  # a concept, which has no box
    found = object_blank(5, example(()), tags, words, seed=1)
    assert found is not None
    assert found.answers == (11,)
    words[2] = [0, 0]
    assert object_blank(5, example(()), tags, words, seed=1) is None
