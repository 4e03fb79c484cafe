"""How well pictures are found by sentences and sentences by pictures: recall and median rank.

As Hodosh et al. 2013 measure it: each sentence should find its picture among all, each picture one
of its sentences. Knows no model.

P pictures, S sentences; `owners` (S,) says whose each sentence is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.metrics.score import Score, Values, ratio_score

__all__ = [
    "DEPTHS",
    "Ranks",
    "mean_recall",
    "nearest_sentences",
    "owners_of",
    "rank_pictures",
    "rank_sentences",
    "retrieval_scores",
    "top_pairs",
]

DEPTHS = (1, 5, 10)
"""Recall is measured among so many first answers."""

# Median ranks above are told apart no further.
_DEEPEST = 500

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Ranks:
    """Both ways, from 1.

    pictures: (S,), where each sentence finds its picture.
    sentences: (P,), where each picture finds the first of its sentences.
    """

    pictures: Ints
    sentences: Ints


def rank_pictures(scores: Floats, owners: Ints) -> Ints:
    """Rank each sentence's picture by scores (P, S): (S,), from 1; a tie counts against it."""
    own = scores[owners, np.arange(len(owners))]
    ranks: Ints = (~(scores < own)).sum(axis=0)  # nan is never found
    return ranks


def rank_sentences(scores: Floats, owners: Ints) -> Ints:
    """Rank the best of each picture's sentences by scores (P, S): (P,), from 1."""
    own = owners[np.newaxis] == np.arange(len(scores))[:, np.newaxis]
    best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
    ranks: Ints = (~(scores < best) & ~own).sum(axis=1) + 1
    return ranks


def mean_recall(ranks: Ranks) -> float:
    """Give the mean of recall at 1, 5 and 10 of both ways, in [0, 1]: what chooses on dev."""
    both = (ranks.pictures, ranks.sentences)
    return float(np.mean([np.mean(each <= depth) for each in both for depth in DEPTHS]))


def retrieval_scores(ranks: Ranks, owners: Ints) -> dict[str, list[Score]]:
    """Give recall and median rank of both ways, each over pictures, so that they can be resampled.

    The keys say what is found: "picture" by a sentence, "sentence" by a picture.
    """
    count = len(ranks.sentences)
    own = np.arange(count, dtype=np.int64)
    return {
        "picture": _scores(ranks.pictures, owners, count),
        "sentence": _scores(ranks.sentences, own, count),
    }


def top_pairs(similarity: Floats, count: int, *, axis: int) -> list[Pair]:
    """Give the pairs (picture, sentence) of the `count` most similar.

    axis: 0 for the pictures of every sentence, 1 for the sentences of every picture.
    """
    count = min(count, similarity.shape[axis])
    top = np.argpartition(-similarity, count - 1, axis=axis)
    if axis == 0:
        return [(int(p), s) for s in range(similarity.shape[1]) for p in top[:count, s]]
    return [(p, int(s)) for p in range(similarity.shape[0]) for s in top[p, :count]]


def nearest_sentences(similarity: Floats, owners: Ints, count: int) -> Ints:
    """Give for each picture the `count` most similar sentences of others: (P, count)."""
    own = owners[np.newaxis] == np.arange(len(similarity))[:, np.newaxis]
    others = np.where(own, -np.inf, similarity)
    nearest: Ints = np.argpartition(-others, count - 1, axis=1)[:, :count]
    return nearest


def _scores(ranks: Ints, owners: Ints, pictures: int) -> list[Score]:
    counts = np.bincount(owners, minlength=pictures).astype(np.float64)
    scores = []
    for depth in DEPTHS:
        found = np.zeros(pictures)
        np.add.at(found, owners, (ranks <= depth).astype(np.float64))
        scores.append(ratio_score(f"R@{depth}", found, counts))
    histogram = np.zeros((pictures, _DEEPEST))
    np.add.at(histogram, (owners, np.minimum(ranks, _DEEPEST) - 1), 1.0)
    scores.append(Score.of("median rank", histogram, _median))
    return scores


def _median(histograms: Values) -> Values:
    """Give the median of ranks that are counted in histograms (..., ranks)."""
    below = histograms.cumsum(axis=-1)
    half = below[..., -1:] / 2
    medians: Values = (below < half).sum(axis=-1) + 1.0
    return medians


def owners_of(counts: Sequence[int]) -> Ints:
    """Tell whose each sentence is, of pictures with so many sentences each."""
    return np.repeat(np.arange(len(counts)), counts)
