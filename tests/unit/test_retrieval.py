"""Ranks, recall, and what is put in order anew."""

import numpy as np
import pytest

from evaluation.measures.reranking import best_weight, find_candidates, reranked
from evaluation.measures.retrieval import (
    Floats,
    Pair,
    Ranks,
    mean_recall,
    nearest_sentences,
    owners_of,
    rank_pictures,
    rank_sentences,
    retrieval_scores,
    top_pairs,
)

OWNERS = owners_of([2, 1])
SCORES: Floats = np.array([[0.9, 0.1, 0.5], [0.2, 0.3, 0.4]], dtype=np.float32)


def test_ranks_count_from_one_both_ways() -> None:
    assert OWNERS.tolist() == [0, 0, 1]
    assert rank_pictures(SCORES, OWNERS).tolist() == [1, 2, 2]
    assert rank_sentences(SCORES, OWNERS).tolist() == [1, 1]


def test_ranks_a_tie_counts_against_the_model() -> None:
    flat = np.zeros((3, 3), dtype=np.float32)
    owners = owners_of([1, 1, 1])
    assert rank_pictures(flat, owners).tolist() == [3, 3, 3]
    assert rank_sentences(flat, owners).tolist() == [3, 3, 3]


def test_ranks_what_is_no_number_finds_nothing() -> None:
    nothing = np.full((3, 3), np.nan, dtype=np.float32)
    assert rank_pictures(nothing, owners_of([1, 1, 1])).tolist() == [3, 3, 3]
    assert rank_sentences(nothing, owners_of([1, 1, 1])).tolist() == [3, 3, 3]


def test_scores_of_ranks_are_recalls_and_medians() -> None:
    ranks = Ranks(np.array([1, 7, 30]), np.array([1, 6]))
    found = retrieval_scores(ranks, OWNERS)
    pictures = {score.name: score.value for score in found["picture"]}
    sentences = {score.name: score.value for score in found["sentence"]}
    assert pictures == pytest.approx({"R@1": 1 / 3, "R@5": 1 / 3, "R@10": 2 / 3, "median rank": 7})
    assert sentences == pytest.approx({"R@1": 0.5, "R@5": 0.5, "R@10": 1.0, "median rank": 1})
    assert mean_recall(ranks) == pytest.approx((4 / 3 + 2) / 6)


def test_top_pairs_of_each_way() -> None:
    assert sorted(top_pairs(SCORES, 1, axis=0)) == [(0, 0), (0, 2), (1, 1)]
    assert sorted(top_pairs(SCORES, 1, axis=1)) == [(0, 0), (1, 2)]
    assert len(top_pairs(SCORES, 99, axis=0)) == SCORES.size


def test_nearest_sentences_are_never_the_photos_own() -> None:
    assert nearest_sentences(SCORES, OWNERS, 1).tolist() == [[2], [1]]


def fit(pairs: list[Pair] | object) -> Floats:
    assert isinstance(pairs, list)
    assert len(set(pairs)) == len(pairs)
    return np.array([10.0 if OWNERS[s] == p else -10.0 for p, s in pairs], dtype=np.float32)


def test_reranking_moves_candidates_alone() -> None:
    candidates = find_candidates(SCORES, 2, fit)  # both pictures of each sentence
    right = reranked(candidates, OWNERS, 1.0)
    assert right.pictures.tolist() == [1, 1, 1]
    same = reranked(candidates, OWNERS, 0.0)
    assert same.pictures.tolist() == rank_pictures(SCORES, OWNERS).tolist()
    few = find_candidates(SCORES, 1, fit)
    assert reranked(few, OWNERS, 1.0).pictures.tolist() == [1, 2, 2]  # not among the candidates


def test_best_weight_is_the_least_of_those_that_are_best() -> None:
    candidates = find_candidates(SCORES, 2, fit)
    assert best_weight(candidates, OWNERS) == 0.1
