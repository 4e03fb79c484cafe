"""What matching models minimize. Pure functions of tensors; knows no model.

B pictures, R sentences, J dimensions, T tokens, K memorized ones, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.masked_words import IGNORED

__all__ = ["contrastive_loss", "guess_loss", "masked_word_loss"]


def contrastive_loss(
    products: Tensor,
    owners: Tensor,
    picture_ids: Tensor,
    *,
    pictures_before: Tensor | None = None,
    sentences_before: Tensor | None = None,
) -> Tensor:
    """Tell true pairs from mismatched ones, both ways (van den Oord et al. 2018, equation 4).

    products: (B, R), of pictures and sentences, times the scale. owners: (R,), the place in the
        batch of each sentence's picture. picture_ids: (B,), equal for one picture drawn twice.
    pictures_before, sentences_before: (R, K), products of each sentence, and of its picture, with
        ones of earlier steps; -inf for none.
    What belongs to the same picture is never a negative: neither its other sentences nor itself.
    """
    rows = torch.arange(len(owners), device=products.device)
    positive = products[owners, rows].unsqueeze(1)  # (R, 1)
    same = picture_ids.unsqueeze(1) == picture_ids[owners].unsqueeze(0)  # (B, R)
    mismatched = products.masked_fill(same, -torch.inf)
    of_sentence = [positive, mismatched.T]  # against the other pictures
    of_picture = [positive, mismatched[owners]]  # against the other pictures' sentences
    if pictures_before is not None:
        of_sentence.append(pictures_before)
    if sentences_before is not None:
        of_picture.append(sentences_before)
    both = [torch.cat(each, dim=1).logsumexp(dim=1) for each in (of_sentence, of_picture)]
    return torch.stack(both).mean() - positive.mean()


def masked_word_loss(guess: Callable[[Tensor], Tensor], states: Tensor, targets: Tensor) -> Tensor:
    """Score the hidden words of states (R, T, E), whose `targets` (R, T) are not `IGNORED`.

    guess: maps states (..., E) to logits (..., V). Zero where nothing is hidden.
    """
    hidden = targets != IGNORED
    if not hidden.any():
        return states.sum() * 0.0
    return guess_loss(guess, states[hidden], targets[hidden])


def guess_loss(guess: Callable[[Tensor], Tensor], states: Tensor, answers: Tensor) -> Tensor:
    """Score guesses of states (R, E) against answers (R,): cross-entropy in nats, the mean."""
    return F.cross_entropy(guess(states).float(), answers)
