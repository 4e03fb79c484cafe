"""The classes of tags: their names, and the words with which people speak of such a thing.

Classes 0 to 79 are COCO's, of objects; from 80 on they are ImageNet's, of concepts. The words of
each were written by hand, the likeliest first. Knows no network.
"""

from functools import cache
from importlib.resources import files
from typing import NamedTuple

from models.array_features import WORDS_A_CLASS
from models.tokenizer import Vocabulary

__all__ = ["FIRST_CONCEPT", "TagClass", "class_word_ids", "tag_classes"]

FIRST_CONCEPT = 80


class TagClass(NamedTuple):
    """One class: its name, and the words of everyday captions for it."""

    name: str
    words: tuple[str, ...]


@cache
def tag_classes() -> tuple[TagClass, ...]:
    """Give all classes in the order of their numbers."""
    text = files(__package__).joinpath("classes.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return tuple(TagClass(name, tuple(words.split())) for name, words in rows)


def class_word_ids(vocabulary: Vocabulary) -> list[list[int]]:
    """Look the classes' words up: for each class `WORDS_A_CLASS` ids, padded.

    Words that the vocabulary lacks are left out.
    """
    rows = []
    for tag_class in tag_classes():
        ids = [each for each in vocabulary.ids(tag_class.words) if each != Vocabulary.unk_id]
        kept = ids[:WORDS_A_CLASS]
        rows.append(kept + [Vocabulary.pad_id] * (WORDS_A_CLASS - len(kept)))
    return rows
