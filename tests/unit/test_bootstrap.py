"""A resample's score is the score of the images drawn; intervals and comparisons behave as
statistics says."""

import numpy as np
import pytest

from evaluation.measures.bootstrap import compare, draw_resamples, interval
from evaluation.metrics.bleu import bleu
from evaluation.metrics.rouge import rouge_l
from evaluation.metrics.score import Score, Values, mean_score

REFERENCES = [
    ["a brown dog runs", "the dog is running fast"],
    ["two children play ball", "kids with a ball"],
    ["a man rides a wave", "the surfer rides a big wave"],
    ["a cat on a mat"],
]
HYPOTHESES = ["a dog runs", "two kids play", "a man rides a big wave", "a cat"]


def means(values: Values, name: str = "points") -> Score:
    return mean_score(name, values.tolist())


def random_values(seed: int, images: int = 500) -> Values:
    return np.random.default_rng(seed).normal(size=images)


def test_draw_resamples_each_draws_as_many_images_as_there_are() -> None:
    resamples = draw_resamples(40, 300, seed=1)
    assert resamples.shape == (300, 40)
    assert (resamples.sum(axis=1) == 40).all()
    assert resamples.mean() == pytest.approx(1.0)
    assert len(np.unique(resamples, axis=0)) == 300


def test_draw_resamples_same_seed_gives_the_same() -> None:
    first, same, other = (draw_resamples(20, 50, seed) for seed in (3, 3, 4))
    assert (first == same).all()
    assert (first != other).any()


@pytest.mark.parametrize("metric", range(5))
def test_resampled_score_equals_scoring_the_images_drawn(metric: int) -> None:
    def scores(images: list[int]) -> list[Score]:
        references = [REFERENCES[i] for i in images]
        hypotheses = [HYPOTHESES[i] for i in images]
        return [*bleu(references, hypotheses), rouge_l(references, hypotheses)]

    whole = scores([0, 1, 2, 3])[metric]
    for counts in draw_resamples(4, 30, seed=0):
        drawn = np.repeat(np.arange(4), counts.astype(int)).tolist()
        assert whole.of_sums(counts @ whole.statistics) == pytest.approx(
            scores(drawn)[metric].value, abs=1e-12
        )


def test_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    score = means(random_values(0))
    found = interval(score, draw_resamples(500, 2000, seed=0))
    half = 1.96 * np.std(score.per_image) / np.sqrt(500)
    assert found.low == pytest.approx(score.value - half, abs=half / 5)
    assert found.high == pytest.approx(score.value + half, abs=half / 5)


def test_interval_images_that_are_all_alike_leave_no_doubt() -> None:
    found = interval(means(np.full(30, 0.25)), draw_resamples(30, 100, seed=0))
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))


def test_compare_model_with_itself_finds_no_difference() -> None:
    score = means(random_values(0))
    found = compare(score, score, draw_resamples(500, 200, seed=0))
    assert (found.value, found.interval.low, found.interval.high, found.other_sign) == (
        0.0,
        0.0,
        0.0,
        1.0,
    )
    assert not found.is_real


def test_compare_turned_round_says_the_opposite() -> None:
    first, second = means(random_values(0)), means(random_values(1))
    resamples = draw_resamples(500, 400, seed=0)
    there = compare(first, second, resamples)
    back = compare(second, first, resamples)
    assert there.value == -back.value
    assert (there.interval.low, there.interval.high) == pytest.approx(
        (-back.interval.high, -back.interval.low)
    )
    assert (there.other_sign, there.is_real) == (back.other_sign, back.is_real)


def test_compare_small_gain_on_every_image_is_real_however_much_images_differ() -> None:
    values = random_values(0)
    resamples = draw_resamples(500, 400, seed=0)
    better = compare(means(values + 0.01), means(values), resamples)
    assert better.value == pytest.approx(0.01)
    assert better.is_real
    assert better.other_sign == 0.0
    assert interval(means(values), resamples).high - interval(means(values), resamples).low > 0.1


def test_compare_unrelated_models_of_the_same_quality_are_rarely_called_different() -> None:
    resamples = draw_resamples(200, 400, seed=0)
    real = [
        compare(
            means(random_values(2 * seed, 200)), means(random_values(2 * seed + 1, 200)), resamples
        ).is_real
        for seed in range(100)
    ]
    assert sum(real) <= 12


def test_compare_other_metric_or_other_images_is_refused() -> None:
    score = means(random_values(0))
    resamples = draw_resamples(500, 10, seed=0)
    for other in (means(random_values(0), "others"), means(random_values(0, 499))):
        with pytest.raises(ValueError, match="same metric"):
            compare(score, other, resamples)
