"""From the tags of one image, as arrays, to what a caption says of them. Knows no captions.

W tags of an image, absent ones included.
"""

from models.array_features import TagValues
from models.caption import ImageTag, TagKind
from models.geometry import Box
from models.tagging.classes import FIRST_CONCEPT, tag_classes

__all__ = ["describe_tags"]


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
