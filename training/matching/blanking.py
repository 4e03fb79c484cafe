"""Which photos of a run are seen once more with a box hidden, and what they teach.

Knows no model. Each such photo costs a pass of the eyes, once, into a cache of its own; that is why
an experiment says of how many (`blanked_share`).
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from models.geometry import Box
from models.network import CaptioningModel
from models.tagging.classes import class_word_ids
from models.tokenizer import Vocabulary
from training.annotation import Annotator
from training.data.annotation_cache import AnnotationCache
from training.data.batching import seeded
from training.data.blanks import Blank, object_blank, phrase_blank
from training.data.examples import Example
from training.matching.photos import BlankedPhotos

__all__ = ["blank_photos", "choose_blanks"]

_SALT = 11


def choose_blanks(
    examples: Sequence[Example],
    cache: AnnotationCache,
    vocabulary: Vocabulary,
    *,
    share: float,
    seed: int,
) -> list[Blank]:
    """Choose a box of a share of the photos: of a phrase, or else of what the detector found."""
    class_words = class_word_ids(vocabulary)
    draws = torch.rand(len(examples), generator=seeded(seed, _SALT)).tolist()
    blanks = []
    for number, example in enumerate(examples):
        if draws[number] >= share:
            continue
        blank = phrase_blank(number, example, seed)
        if blank is None and not example.grounding:
            tags = cache.read([number]).tags
            assert tags is not None  # the eyes have a tagger
            blank = object_blank(number, example, tags, class_words, seed)
        if blank is not None:
            blanks.append(blank)
    return blanks


def blank_photos(
    eyes: CaptioningModel,
    annotator: Annotator,
    examples: Sequence[Example],
    blanks: Sequence[Blank],
    *,
    blocks: int,
    hide_encoder: float,
) -> BlankedPhotos:
    """Have the eyes see the photos of blanks, their boxes hidden, or find what they saw before."""
    boxes: dict[Path, Box] = {}
    kept = []
    for blank in blanks:
        path = examples[blank.example].path
        if path is not None and path not in boxes:
            boxes[path] = blank.box
            kept.append(blank)
    cache = annotator.blanked(boxes)
    return BlankedPhotos(eyes, cache, kept, blocks=blocks, hide_encoder=hide_encoder)
