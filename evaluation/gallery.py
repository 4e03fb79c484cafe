"""Photos with all their captions, seen once through the captioner that the service runs.

So what matching is measured on is what is served. Knows no scores.

B photos, S captions of all of them; the others as in `models.matching.regions`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evaluation.captioning import Advance, batches, no_progress, prepare_image
from evaluation.measures.retrieval import Ints, owners_of
from models.captioner import NetworkCaptioner
from models.features import ImageFeatures
from models.matching.regions import Regions, append_boxes, find_regions
from models.tokenizer import Vocabulary
from training.data.augmentation import blank
from training.data.blanks import Blank
from training.data.datasets import CaptionedImage

__all__ = ["Gallery", "see_gallery"]


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Photos, what was seen of them, and their captions as ids.

    features: of all photos in order, a batch at a time, in half precision. owners: (S,), whose each
    caption is.
    """

    captioner: NetworkCaptioner
    images: Sequence[CaptionedImage]
    features: Sequence[ImageFeatures]
    sentences: Sequence[Sequence[int]]
    owners: Ints

    def __len__(self) -> int:
        """Count the photos."""
        return len(self.images)

    def first(self, count: int) -> "Gallery":
        """Take the first photos, in whole batches: `count` at least, where there are so many."""
        kept: list[ImageFeatures] = []
        photos = 0
        for part in self.features:
            if photos >= count:
                break
            kept.append(part)
            photos += len(part)
        captions = int((self.owners < photos).sum())
        return Gallery(
            self.captioner,
            self.images[:photos],
            kept,
            self.sentences[:captions],
            self.owners[:captions],
        )

    def parts(self, blocks: int) -> Iterator[Regions]:
        """Give the regions of all photos, a batch at a time."""
        for part in self.features:
            yield find_regions(part.to(torch.float32), self.captioner.grid, blocks)

    def captions_of(self, start: int, count: int) -> list[int]:
        """Give the numbers of all captions of photos `start` to `start + count`."""
        inside = (self.owners >= start) & (self.owners < start + count)
        numbers: list[int] = np.flatnonzero(inside).tolist()
        return numbers

    def hidden(
        self, blanks: Sequence[Blank], blocks: int, advance: Advance = no_progress
    ) -> Iterator[tuple[Sequence[Blank], Regions]]:
        """Give photos anew, whose boxes are hidden before the eyes see them, some at a time.

        The last region of each is the hidden one. Raises DataError for an unreadable image.
        """
        by_number = {each.example: each for each in blanks}
        chosen = [self.images[number] for number in by_number]
        for start, batch in batches(chosen):
            asked = list(by_number.values())[start : start + len(batch)]
            pixels = np.stack([prepare_image(self.captioner, image).pixels for image in batch])
            shown = blank(torch.from_numpy(pixels), [each.box for each in asked])
            features = ImageFeatures.of(self.captioner.encode_pixels(shown.numpy()))
            features = features.to(torch.float32)
            boxes = torch.tensor([[list(each.box)] for each in asked])
            regions = find_regions(features, self.captioner.grid, blocks)
            yield asked, append_boxes(regions, features.annotations, boxes, self.captioner.grid)
            advance(len(batch))


def see_gallery(
    captioner: NetworkCaptioner,
    images: Sequence[CaptionedImage],
    vocabulary: Vocabulary,
    advance: Callable[[int], object] = no_progress,
) -> Gallery:
    """Look at every photo once. Raises DataError with the name of one that cannot be read."""
    features = []
    for _, batch in batches(images):
        seen = captioner.encode([prepare_image(captioner, image) for image in batch])
        features.append(ImageFeatures.of(seen).to(torch.float16))
        advance(len(batch))
    sentences = [vocabulary.encode(text) for image in images for text in image.captions]
    owners = owners_of([len(image.captions) for image in images])
    return Gallery(captioner, images, features, sentences, owners)
