"""What matching models guess and tell, measured on numbers that can be checked by hand."""

import numpy as np
import pytest

from evaluation.measures.chosen_captions import Choices, best_mixture, choose
from evaluation.measures.matching import judge_pairs, mismatch, most_frequent_answer
from evaluation.measures.retrieval import Floats, owners_of
from evaluation.report.matching_page import read_queries
from models.geometry import WHOLE_IMAGE
from training.data.blanks import Blank
from training.data.datasets import CaptionedImage

OWNERS = owners_of([2, 2])


def logits(*values: float) -> Floats:
    return np.array(values, dtype=np.float32)


def test_sure_and_right_pairs_have_no_error() -> None:
    scores = judge_pairs(logits(50, 50, 50, 50), logits(-50, -50, -50, -50), OWNERS)
    assert scores.accuracy.value == 1.0
    assert scores.calibration_error.value == pytest.approx(0.0, abs=1e-6)


def test_sure_and_half_right_pairs_are_half_a_step_from_the_truth() -> None:
    scores = judge_pairs(logits(50, 50, 50, 50), logits(50, 50, 50, 50), OWNERS)
    assert scores.accuracy.value == 0.5
    assert scores.calibration_error.value == pytest.approx(0.5)


def test_unsure_pairs_are_calibrated_where_half_of_them_fit() -> None:
    scores = judge_pairs(logits(0, 0, 0, 0), logits(0, 0, 0, 0), OWNERS)
    assert scores.calibration_error.value == pytest.approx(0.0)
    assert scores.accuracy.per_image == (0.5, 0.5)


@pytest.mark.parametrize("hard", [True, False])
def test_mismatched_captions_are_never_the_photos_own(hard: bool) -> None:
    owners = owners_of([2, 3, 1])
    similarity = np.eye(3, 6, dtype=np.float32)
    for _ in range(3):
        chosen = mismatch(similarity, owners, hard=hard)
        assert (owners[chosen] != owners).all()
    assert mismatch(similarity, owners, hard=hard).tolist() == chosen.tolist()


def test_most_frequent_answer_is_that_of_most_blanks() -> None:
    blanks = [Blank(number, 0, WHOLE_IMAGE, (word, 9)) for number, word in enumerate((5, 7, 5))]
    assert most_frequent_answer(blanks) == 5


def test_captions_are_chosen_by_both_numbers() -> None:
    choices = [Choices(["a dog runs", "a cat sits"], [-1.0, -1.5], [0.0, 2.0])]
    assert choose(choices, 0.0) == ["a dog runs"]
    assert choose(choices, 0.5) == ["a cat sits"]


def test_mixture_is_the_least_that_is_best_on_dev() -> None:
    images = [
        CaptionedImage("one", None, ("a cat sits", "the cat sits")),
        CaptionedImage("two", None, ("a red ball", "some red ball")),
    ]
    choices = [
        Choices(["a dog runs", "a cat sits"], [-1.0, -1.05], [0.0, 2.0]),
        Choices(["a red ball", "a green tree"], [-1.0, -3.0], [1.0, 0.0]),
    ]
    assert best_mixture(choices, images) == 0.05


def test_queries_are_twelve_and_differ() -> None:
    assert len(set(read_queries())) == len(read_queries()) == 12
