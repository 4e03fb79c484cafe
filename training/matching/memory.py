"""Pairs of earlier steps, of which the hardest are negatives too (Wang et al. 2020, section 3.2).

A small batch has few mismatches that are hard; what was seen a few steps before has more, and its
vectors have hardly moved since. Knows no model.

R queries, K memorized pairs, J dimensions.
"""

import torch
from torch import Tensor

__all__ = ["PairMemory"]

_NOBODY = -1


class PairMemory:
    """The last `size` pairs of vectors, each with its picture's number."""

    def __init__(self, size: int, joint_dim: int) -> None:
        """Remember nothing yet."""
        self.pictures = torch.zeros(size, joint_dim)
        self.sentences = torch.zeros(size, joint_dim)
        self.owners = torch.full((size,), _NOBODY)
        self.next = torch.zeros(1, dtype=torch.long)

    def __len__(self) -> int:
        """Count the places, empty ones included."""
        return len(self.owners)

    @torch.no_grad()
    def add(self, pictures: Tensor, sentences: Tensor, owners: Tensor) -> None:
        """Remember pairs (R, J) of pictures `owners` (R,), in place of the oldest."""
        if not len(self):
            return
        places = (self.next + torch.arange(len(owners))) % len(self)
        # not in place: a gradient may still run through products with what is remembered now
        self.pictures = self.pictures.index_copy(0, places, pictures.float().cpu())
        self.sentences = self.sentences.index_copy(0, places, sentences.float().cpu())
        self.owners = self.owners.index_copy(0, places, owners.cpu())
        self.next = (self.next + len(owners)) % len(self)

    def hardest_pictures(self, sentences: Tensor, owners: Tensor, count: int) -> Tensor | None:
        """Give the largest products (R, count) of sentences (R, J) with other pictures."""
        return self._hardest(sentences, owners, self.pictures, count)

    def hardest_sentences(self, pictures: Tensor, owners: Tensor, count: int) -> Tensor | None:
        """Give the largest products (R, count) of pictures (R, J) with others' sentences."""
        return self._hardest(pictures, owners, self.sentences, count)

    def tensors(self) -> dict[str, Tensor]:
        """Give all that is remembered, by name, for a saved state."""
        return {
            "pictures": self.pictures,
            "sentences": self.sentences,
            "owners": self.owners,
            "next": self.next,
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        self.pictures = tensors["pictures"]
        self.sentences = tensors["sentences"]
        self.owners = tensors["owners"]
        self.next = tensors["next"]

    def _hardest(
        self, queries: Tensor, owners: Tensor, remembered: Tensor, count: int
    ) -> Tensor | None:
        """Give -inf for what is of the same picture, and for empty places."""
        if not len(self):
            return None
        known = self.owners.to(queries.device)
        products = queries @ remembered.to(queries.device).T  # (R, K)
        unfit = (known == owners.unsqueeze(1)) | (known == _NOBODY)
        products = products.masked_fill(unfit, -torch.inf)
        return products.topk(min(count, len(self)), dim=1).values
