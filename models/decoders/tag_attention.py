"""Attention over tags: the objects and concepts of an image, beside the cells of its grid.

As Anderson et al. 2018 attend to detected objects and You et al. 2016 to concepts; with a share for
none of them, and a pointer that copies the words of what is attended to (See et al. 2017; Yao et
al. 2017). Knows no detector, no vocabulary and no strings.

Letters in shapes: W tags of an image, K classes of tags, P words of a class, F features of a tag;
the others as in `models`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.array_features import TAG_CLASSES, WORDS_A_CLASS
from models.features import Tags

__all__ = ["Copies", "TagAttention", "TagKeys", "TagOutput", "add_copies"]

# class and score, box, area, and how many of its class there are
_PLACE_FEATURES = 7
# What a word's logit gains where all attention lies on a tag that it names, at first.
_FIRST_GAIN = 4.0
# The energy of looking at no tag, at first: most of the attention stays with the cells. Training
# hardly moves either of the two (docs/LOG.md).
_FIRST_NONE = 1.5


class Copies(NamedTuple):
    """Words that may be copied, and what each one's logit gains: (..., C) both.

    token_ids: pad where there is no word. gains: zero there.
    """

    token_ids: Tensor
    gains: Tensor

    def at(self, chosen: Tensor) -> "Copies":
        """Take those of the chosen places, (...) bool."""
        return Copies(self.token_ids[chosen], self.gains[chosen])


class TagKeys(NamedTuple):
    """The tags of B images, prepared once for all steps.

    values: (B, W, F). keys: (B, W, A). present: (B, W) bool. places: (B, W, L), where each is.
    word_ids, word_gains: (B, W, P), the words of each tag's class, and their gains.
    """

    values: Tensor
    keys: Tensor
    present: Tensor
    places: Tensor
    word_ids: Tensor
    word_gains: Tensor

    def select(self, images: Tensor) -> "TagKeys":
        """Take some images."""
        return TagKeys(*(part[images] for part in self))


class TagOutput(NamedTuple):
    """One step: context (R, F), and the shares of the tags (R, W); `none` (R,) is the rest.

    place (R, L): where the tags' share lies; sums to 1 - none.
    gains (R, W * P): what the logits of the tags' words gain.
    """

    context: Tensor
    shares: Tensor
    none: Tensor
    place: Tensor
    gains: Tensor


class TagAttention(nn.Module):
    """Additive attention (Xu et al. 2015, equation 4) over tags, and over looking at none of them.

    A tag's value is made of the embeddings of its class's words, its box, area and score, how many
    of its class there are, and the annotations where it lies.
    """

    class_words: Tensor

    def __init__(
        self,
        *,
        encoder_dim: int,
        decoder_dim: int,
        attention_dim: int,
        embed_dim: int,
    ) -> None:
        """Build with random weights; the words of the classes are still to be told: `set_words`.

        F is `embed_dim`.
        """
        super().__init__()
        # the words that the ids are of are the decoder's; stored with its weights
        words = torch.zeros(TAG_CLASSES, WORDS_A_CLASS, dtype=torch.long)
        self.register_buffer("class_words", words)
        self.gain = nn.Parameter(torch.full(words.shape, _FIRST_GAIN))
        self.word = nn.Linear(embed_dim, embed_dim)
        self.place = nn.Linear(_PLACE_FEATURES, embed_dim, bias=False)
        self.seen = nn.Linear(encoder_dim, embed_dim, bias=False)
        self.normalise = nn.LayerNorm(embed_dim)
        self.key = nn.Linear(embed_dim, attention_dim)
        self.query = nn.Linear(decoder_dim, attention_dim, bias=False)
        self.score = nn.Linear(attention_dim, 1, bias=False)
        self.none = nn.Linear(decoder_dim, 1)
        nn.init.constant_(self.none.bias, _FIRST_NONE)

    def set_words(self, ids: list[list[int]]) -> None:
        """Tell the words of every class: K rows of P token ids, padded with 0."""
        self.class_words.copy_(torch.tensor(ids))

    def prepare(self, tags: Tags, annotations: Tensor | None, embedding: nn.Embedding) -> TagKeys:
        """Prepare tags for the steps; annotations (B, L, D) are normalized, None is no image."""
        classes = tags.classes  # (B, W)
        present = tags.present
        word_ids = self.class_words[classes]  # (B, W, P)
        there = (word_ids != 0) & present.unsqueeze(2)
        gains = self.gain[classes].masked_fill(~there, 0.0)
        share = there / there.sum(dim=2, keepdim=True).clamp(min=1)
        name = (embedding(word_ids) * share.unsqueeze(3)).sum(dim=2)  # (B, W, E)
        value = self.word(name) + self.place(_describe(tags))
        if annotations is not None:
            value = value + self.seen(tags.places.to(annotations.dtype) @ annotations)
        values = self.normalise(value) * present.unsqueeze(2)  # (B, W, F)
        return TagKeys(values, self.key(values), present, tags.places, word_ids, gains)

    def forward(self, tags: TagKeys, hidden: Tensor) -> TagOutput:
        """Attend with hidden (R, N)."""
        query = self.query(hidden).view(len(tags.values), -1, 1, tags.keys.shape[2])  # (B,G,1,A)
        energy = self.score(torch.tanh(tags.keys.unsqueeze(1) + query)).squeeze(-1)  # (B, G, W)
        energy = energy.float().masked_fill(~tags.present.unsqueeze(1), -torch.inf)
        none = self.none(hidden).float().view(len(tags.values), -1, 1)  # (B, G, 1)
        shares = torch.cat([energy, none], dim=2).softmax(dim=2)
        shares, none = shares[..., :-1], shares[..., -1]
        context = torch.bmm(shares.to(tags.values.dtype), tags.values)
        gains = shares.unsqueeze(3) * tags.word_gains.unsqueeze(1)  # (B, G, W, P)
        return TagOutput(
            context=context.flatten(0, 1),
            shares=shares.flatten(0, 1),
            none=none.flatten(),
            place=torch.bmm(shares, tags.places.float()).flatten(0, 1),
            gains=gains.flatten(2).flatten(0, 1),
        )


def add_copies(logits: Tensor, copies: Copies) -> Tensor:
    """Add to logits (..., V) what the copied words gain."""
    return logits.scatter_add(-1, copies.token_ids, copies.gains.to(logits.dtype))


def _describe(tags: Tags) -> Tensor:
    """Give what is known of each tag beside its class: (B, W, 7)."""
    left, top, right, bottom = tags.boxes.unbind(dim=2)
    area = (right - left) * (bottom - top)
    present = tags.present
    alike = (tags.classes.unsqueeze(1) == tags.classes.unsqueeze(2)) & present.unsqueeze(1)
    count = alike.sum(dim=2).to(area.dtype).log1p()  # (B, W)
    return torch.cat(
        [tags.boxes, torch.stack([tags.scores, area, count], dim=2)], dim=2
    ) * present.unsqueeze(2)
