"""The reward of self-critical training: CIDEr-D of a sample against its image's captions.

Knows no gradients.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from evaluation.metrics.cider import CiderD
from evaluation.metrics.ptb_tokenizer import tokenize_ptb
from models.tokenizer import Vocabulary
from training.data.examples import Example

__all__ = ["CaptionReward", "advantages"]

# scored as a word: without it, captions that stop in the middle ("a man on a") are rewarded
_END = "<eos>"


class CaptionReward:
    """CIDEr-D against the training images' own captions, each with its end as a last word."""

    def __init__(self, examples: Sequence[Example], vocabulary: Vocabulary) -> None:
        """Count document frequencies over `examples`."""
        self._vocabulary = vocabulary
        self._scorer = CiderD(
            [[[*tokenize_ptb(text), _END] for text in example.texts] for example in examples]
        )

    def __call__(self, indices: Sequence[int], token_ids: Tensor) -> Tensor:
        """Score captions (B, G, T) of images `indices`: rewards (B, G), in [0, 10]."""
        rewards = [
            [self._score(index, caption) for caption in captions]
            for index, captions in zip(indices, token_ids.tolist(), strict=True)
        ]
        return torch.tensor(rewards)

    def _score(self, index: int, ids: list[int]) -> float:
        words = tokenize_ptb(" ".join(self._vocabulary.decode(ids)))
        ended = [_END] if self._vocabulary.eos_id in ids else []
        return self._scorer.score([*words, *ended], index)


def advantages(rewards: Tensor) -> Tensor:
    """Compare each of an image's G samples (B, G) with the mean of the others, its baseline.

    Rennie et al. 2017 take the greedy caption's reward as the baseline; the other samples' mean
    (Luo 2020, "A Better Variant of Self-Critical Sequence Training") costs no extra decoding, and
    depends on the sample no more than it.
    """
    count = rewards.shape[1]
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / max(count - 1, 1)
    return rewards - others
