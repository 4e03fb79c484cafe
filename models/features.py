"""What a model sees of images, in torch: annotations of the grid, and tags, what was found.

Values only: knows no network and no words. `models.array_features` has the same in NumPy.

Letters in shapes: W tags of an image, absent ones included; the others as in `models`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.array_features import TAG_FIELDS, Features, Floats

__all__ = ["ImageFeatures", "Tags"]


@dataclass(frozen=True, slots=True, eq=False)
class Tags:
    """Objects and concepts of B images, W each, the absent ones masked.

    values: (B, W, 6 + L) float, so that they can be cached and moved as one tensor. Made by `pack`.
    """

    values: Tensor

    @classmethod
    def pack(cls, classes: Tensor, scores: Tensor, boxes: Tensor, places: Tensor) -> "Tags":
        """Make tags of their parts, shaped as the properties give them; score 0 marks an absence.

        classes: below 2,048, which half precision keeps exact.
        """
        parts = [classes.unsqueeze(-1).float(), scores.unsqueeze(-1), boxes, places]
        return cls(torch.cat(parts, dim=-1))

    @property
    def classes(self) -> Tensor:
        """The number of each tag's class, (B, W) int64; see `models.tagging.classes`."""
        return self.values[..., 0].round().long()

    @property
    def scores(self) -> Tensor:
        """How sure the tagger is, (B, W), from 0 to 1."""
        return self.values[..., 1]

    @property
    def boxes(self) -> Tensor:
        """Left, top, right, bottom in fractions of the image, (B, W, 4)."""
        return self.values[..., 2:TAG_FIELDS]

    @property
    def places(self) -> Tensor:
        """Where on the grid each tag is, (B, W, L): non-negative, sums to 1; zero where absent."""
        return self.values[..., TAG_FIELDS:]

    @property
    def present(self) -> Tensor:
        """Which of the W are there, (B, W) bool."""
        return self.scores > 0

    def __len__(self) -> int:
        """Count the images."""
        return len(self.values)


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeatures:
    """What a decoder reads of B images.

    annotations: (B, L, D), one vector for each cell of the grid (Xu et al. 2015, section 3.1.1).
    tags: None where the model looks for none.
    """

    annotations: Tensor
    tags: Tags | None = None

    @classmethod
    def of(cls, features: Features) -> "ImageFeatures":
        """Take features of any library, without a copy; those in torch stay where they lie."""
        if isinstance(features, ImageFeatures):
            return features
        tags = None if features.tags is None else Tags(torch.as_tensor(features.tags.values))
        return cls(torch.as_tensor(features.annotations), tags)

    @classmethod
    def join(cls, parts: Sequence[Features]) -> "ImageFeatures":
        """Put the images of all parts, at least one, behind each other.

        Raises ValueError where some have tags and others none.
        """
        taken = [cls.of(part) for part in parts]
        tags = [part.tags.values for part in taken if part.tags is not None]
        if tags and len(tags) < len(taken):
            raise ValueError("images with tags and images without cannot be joined")
        return cls(
            torch.cat([part.annotations for part in taken]),
            Tags(torch.cat(tags)) if tags else None,
        )

    def __len__(self) -> int:
        """Count the images."""
        return len(self.annotations)

    def __getitem__(self, chosen: slice | Tensor) -> "ImageFeatures":
        """Take some images."""
        return self._each(lambda tensor: tensor[chosen])

    def __iter__(self) -> Iterator["ImageFeatures"]:
        """Give the images one by one, each as a batch of one."""
        return (self[number : number + 1] for number in range(len(self)))

    def put(self, rows: Sequence[int], others: "ImageFeatures") -> None:
        """Replace the images `rows` by others, in place."""
        chosen = list(rows)
        self.annotations[chosen] = others.annotations
        if self.tags is not None and others.tags is not None:
            self.tags.values[chosen] = others.tags.values

    def to(self, target: torch.device | torch.dtype) -> "ImageFeatures":
        """Move or convert all tensors."""
        return self._each(lambda tensor: tensor.to(target))

    @property
    def means(self) -> Floats:
        """The mean of each image's annotations, (B, D), in NumPy."""
        means: Floats = self.annotations.mean(dim=1).cpu().numpy()
        return means

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.annotations.device

    def _each(self, change: Callable[[Tensor], Tensor]) -> "ImageFeatures":
        tags = None if self.tags is None else Tags(change(self.tags.values))
        return ImageFeatures(change(self.annotations), tags)
