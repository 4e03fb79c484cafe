"""What one model found, put in order by another that looks at pairs (Lu et al. 2019, section 3.2).

Knows no model: pairs go in, numbers come out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.measures.retrieval import (
    Floats,
    Ints,
    Pair,
    Ranks,
    mean_recall,
    rank_pictures,
    rank_sentences,
    top_pairs,
)

__all__ = ["WEIGHTS", "Candidates", "best_weight", "find_candidates", "reranked"]

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Of a pair's logit, beside the similarity times its scale; what is best on dev is taken."""

_FAR = 1e6

Fit = Callable[[Sequence[Pair]], Floats]
"""Gives the logits of pairs (picture, sentence) fitting."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is put in order.

    similarity: (P, S), scaled, by which candidates were found. fits: (P, S), the logits of
        candidates, nan elsewhere.
    pictures: (P, S) bool, the candidates of each sentence. sentences: those of each picture.
    """

    similarity: Floats
    fits: Floats
    pictures: np.ndarray
    sentences: np.ndarray


def find_candidates(similarity: Floats, count: int, fit: Fit) -> Candidates:
    """Take the `count` most similar of each way, and ask how well they fit, each pair once."""
    masks = []
    for axis in (0, 1):
        mask = np.zeros(similarity.shape, dtype=bool)
        rows, columns = zip(*top_pairs(similarity, count, axis=axis), strict=True)
        mask[list(rows), list(columns)] = True
        masks.append(mask)
    places = np.argwhere(masks[0] | masks[1])
    fits = np.full(similarity.shape, np.nan, dtype=np.float32)
    fits[places[:, 0], places[:, 1]] = fit([(int(p), int(s)) for p, s in places])
    return Candidates(similarity, fits, masks[0], masks[1])


def reranked(candidates: Candidates, owners: Ints, weight: float) -> Ranks:
    """Rank candidates by similarity + weight x logit; all others stay behind, as they were."""
    by_sentence = _mixed(candidates, candidates.pictures, weight)
    by_picture = _mixed(candidates, candidates.sentences, weight)
    return Ranks(rank_pictures(by_sentence, owners), rank_sentences(by_picture, owners))


def best_weight(candidates: Candidates, owners: Ints) -> float:
    """Choose the weight of `WEIGHTS` with the highest mean recall; the least of equal ones."""
    recalls = [mean_recall(reranked(candidates, owners, weight)) for weight in WEIGHTS]
    return WEIGHTS[int(np.argmax(recalls))]


def _mixed(candidates: Candidates, chosen: np.ndarray, weight: float) -> Floats:
    mixed = candidates.similarity + weight * np.nan_to_num(candidates.fits)
    scores: Floats = np.where(chosen, mixed, candidates.similarity - _FAR)
    return scores
