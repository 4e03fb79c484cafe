"""Captioned images as examples to learn from: captions as ids. Knows no model, opens no image."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.tokenizer import Vocabulary, tokenize
from training.data.datasets import CaptionedImage
from training.data.flickr30k_entities import GroundedCaption, Phrase

__all__ = ["Example", "flippable", "make_examples"]

_SIDES = re.compile(r"\b(?:left|right)(?:most|wards?|y|ies|side|hand\w*)?\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Example:
    """One image for training.

    captions: as ids without bos and eos. texts: as people wrote them, all of them.
    weight: how often an epoch draws the image, on average.
    source: the name of its set.
    grounding: the phrases with boxes of each caption, in step with `captions`; empty where they are
        not known.
    """

    key: str
    path: Path | None
    captions: tuple[tuple[int, ...], ...]
    weight: float
    flippable: bool
    texts: tuple[str, ...] = ()
    source: str = ""
    grounding: tuple[tuple[Phrase, ...], ...] = ()

    @property
    def longest(self) -> int:
        """Words of its longest caption."""
        return max(len(caption) for caption in self.captions)


def flippable(captions: Sequence[str]) -> bool:
    """Tell whether the captions stay true of the mirrored image: none says left or right."""
    return not any(_SIDES.search(caption) for caption in captions)


def make_examples(
    images: Sequence[CaptionedImage],
    vocabulary: Vocabulary,
    weight: float,
    max_length: int,
    source: str = "",
    grounding: Mapping[str, tuple[GroundedCaption, ...]] | None = None,
) -> list[Example]:
    """Encode images; leave out captions without a known word, and images without such a caption.

    grounding: by the images' keys; its captions are found by their tokens, in whatever order.
    """
    examples = []
    for image in images:
        captions, texts = _known(image.captions, vocabulary, max_length)
        if captions:
            example = Example(
                key=image.key,
                path=image.path,
                captions=captions,
                weight=weight,
                flippable=flippable(image.captions),
                texts=image.captions,
                source=source,
                grounding=_phrases(texts, (grounding or {}).get(image.key, ()), max_length),
            )
            examples.append(example)
    return examples


def _known(
    texts: Sequence[str], vocabulary: Vocabulary, max_length: int
) -> tuple[tuple[tuple[int, ...], ...], list[str]]:
    """Give the ids and the texts of the captions that have a known word."""
    captions = []
    kept = []
    for text in texts:
        ids = tuple(vocabulary.encode(text)[:max_length])
        if any(each != vocabulary.unk_id for each in ids):
            captions.append(ids)
            kept.append(text)
    return tuple(captions), kept


def _phrases(
    texts: Sequence[str], grounded: Sequence[GroundedCaption], max_length: int
) -> tuple[tuple[Phrase, ...], ...]:
    """Find each caption's phrases, cut to `max_length` tokens.

    Gives none at all where no caption is grounded.
    """
    if not grounded:
        return ()
    known = {caption.tokens: caption.phrases for caption in grounded}
    return tuple(_cut(known.get(tuple(tokenize(text)), ()), max_length) for text in texts)


def _cut(phrases: Sequence[Phrase], max_length: int) -> tuple[Phrase, ...]:
    return tuple(
        phrase._replace(end=min(phrase.end, max_length))
        for phrase in phrases
        if phrase.start < max_length
    )
