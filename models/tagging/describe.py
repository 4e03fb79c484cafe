"""From the tags of one image, as arrays, to what a caption says of them. Knows no captions.

W tags of an image, absent ones included.
"""

from collections import Counter
from collections.abc import Iterable

from models.array_features import TagValues
from models.caption import ImageTag, TagKind
from models.geometry import Box
from models.tagging.classes import FIRST_CONCEPT, tag_classes

__all__ = ["describe_tags", "words_of_several"]


def describe_tags(tags: TagValues | None) -> dict[int, ImageTag]:
    """Describe the tags of one image that are present, by their places among its W tags."""
    if tags is None:
        return {}
    classes = tags.classes[0].tolist()
    scores = tags.scores[0].tolist()
    boxes = tags.boxes[0].tolist()
    return {
        place: ImageTag(
            kind=TagKind.CONCEPT if number >= FIRST_CONCEPT else TagKind.OBJECT,
            name=tag_classes()[number].name,
            score=score,
            box=Box(*box),
        )
        for place, (number, score, box) in enumerate(zip(classes, scores, boxes, strict=True))
        if score > 0
    }


def words_of_several(tags: Iterable[ImageTag]) -> frozenset[str]:
    """Give the words for kinds of objects of which an image shows two or more."""
    counts = Counter(tag.name for tag in tags if tag.kind is TagKind.OBJECT)
    objects = tag_classes()[:FIRST_CONCEPT]
    several = (each.words for each in objects if counts[each.name] > 1)
    return frozenset(word for words in several for word in words)
