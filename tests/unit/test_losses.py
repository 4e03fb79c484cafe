"""The losses against their formulas, written out plainly."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data.batching import seeded
from training.losses import (
    MovingBaseline,
    attention_loss,
    caption_loss,
    doubly_stochastic_penalty,
    reinforce_loss,
)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@given(seed=st.integers(0, 1000))
def test_caption_loss_equals_the_plain_formula(smoothing: float, seed: int) -> None:
    """Smoothing s puts (1 - s) of the mass on the target and s / V on every word."""
    words = 6
    size = 9
    logits = 3 * torch.randn(words, size, generator=seeded(seed))
    targets = torch.randint(size, (words,), generator=seeded(seed, 1))
    expected = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        log_total = math.log(sum(math.exp(logit) for logit in row))
        for word, logit in enumerate(row):
            share = smoothing / size + (1 - smoothing) * (word == target)
            expected -= share * (logit - log_total)
    assert caption_loss(logits, targets, label_smoothing=smoothing).item() == pytest.approx(
        expected, rel=1e-5, abs=1e-7
    )


def test_caption_loss_is_a_sum_so_that_processes_can_add_theirs() -> None:
    logits = torch.randn(8, 5, generator=seeded(0))
    targets = torch.arange(8) % 5
    parts = [
        caption_loss(logits[half], targets[half], label_smoothing=0.1)
        for half in (slice(0, 3), slice(3, 8))
    ]
    torch.testing.assert_close(sum(parts), caption_loss(logits, targets, label_smoothing=0.1))


def test_caption_loss_half_precision_logits_are_summed_in_float32() -> None:
    loss = caption_loss(
        torch.zeros(100_000, 4, dtype=torch.bfloat16),
        torch.zeros(100_000, dtype=torch.long),
        label_smoothing=0.0,
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(100_000 * math.log(4), rel=1e-4)


def test_caption_loss_without_words_is_zero_with_a_gradient() -> None:
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = caption_loss(logits, torch.zeros(0, dtype=torch.long), label_smoothing=0.1)
    loss.backward()
    assert loss.item() == 0.0


def plain_penalty(alphas: list[list[list[float]]], mask: list[list[bool]]) -> float:
    """Equation 14's second term as a loop: mean over captions and locations of (1 - sum_t
    alpha_ti)^2."""
    captions = [row for row in range(len(mask)) if any(mask[row])]
    total = 0.0
    for row in captions:
        locations = len(alphas[row][0])
        for location in range(locations):
            seen = sum(alphas[row][time][location] for time, there in enumerate(mask[row]) if there)
            total += (1 - seen) ** 2 / locations
    return total / len(captions)


@given(
    seed=st.integers(0, 1000),
    rows=st.integers(1, 4),
    length=st.integers(1, 5),
    locations=st.integers(1, 6),
)
def test_doubly_stochastic_penalty_equals_the_plain_loop(
    seed: int, rows: int, length: int, locations: int
) -> None:
    alphas = torch.randn(rows, length, locations, generator=seeded(seed)).softmax(dim=-1)
    lengths = torch.randint(0, length + 1, (rows,), generator=seeded(seed, 1))
    lengths[0] = length  # one caption at least
    mask = torch.arange(length) < lengths.unsqueeze(1)
    expected = plain_penalty(alphas.tolist(), mask.tolist())
    assert doubly_stochastic_penalty(alphas, mask).item() == pytest.approx(
        expected, rel=1e-5, abs=1e-7
    )


def test_doubly_stochastic_penalty_every_place_looked_at_once_is_zero() -> None:
    alphas = torch.eye(4).unsqueeze(0)
    assert doubly_stochastic_penalty(alphas, torch.ones(1, 4, dtype=torch.bool)).item() == 0.0


def test_doubly_stochastic_penalty_rows_of_pad_alone_do_not_count() -> None:
    alphas = torch.randn(2, 3, 4, generator=seeded(3)).softmax(dim=-1)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(
        doubly_stochastic_penalty(alphas, mask), doubly_stochastic_penalty(alphas[:1], mask[:1])
    )


def bandit(rewards: torch.Tensor, baseline: float, draws: int) -> torch.Tensor:
    """Gradients (draws, 2) of the two locations' energies, one draw each, by the loss that training
    uses."""
    energy = torch.tensor([0.4, -0.3]).expand(draws, 2).clone().requires_grad_()
    logprobs = energy.log_softmax(dim=1)
    place = torch.multinomial(logprobs.detach().exp(), 1, generator=seeded(5))  # (draws, 1)
    moving = MovingBaseline(baseline)
    advantage = moving.compare(rewards[place.squeeze(1)])
    reinforce_loss(logprobs.gather(1, place).squeeze(1), advantage).backward()
    assert energy.grad is not None
    return -energy.grad  # the loss is minimized, the reward maximized


def test_reinforce_on_a_two_location_bandit_has_the_analytic_gradient_as_its_mean() -> None:
    """d/de_i sum_s p_s r_s = p_i (r_i - sum_s p_s r_s)."""
    rewards = torch.tensor([-2.0, -5.0])
    p = torch.tensor([0.4, -0.3]).softmax(dim=0)
    analytic = p * (rewards - (p * rewards).sum())
    gradients = bandit(rewards, 0.0, 200_000)
    standard_error = gradients.std(dim=0) / math.sqrt(len(gradients))
    assert ((gradients.mean(dim=0) - analytic).abs() < 4 * standard_error).all()
    assert (standard_error < 0.01 * analytic.abs()).all()  # so the check above could fail


@pytest.mark.parametrize("baseline", [-3.0, -4.0])
def test_reinforce_baseline_lowers_the_variance_and_leaves_the_mean(baseline: float) -> None:
    rewards = torch.tensor([-2.0, -5.0])
    p = torch.tensor([0.4, -0.3]).softmax(dim=0)
    analytic = p * (rewards - (p * rewards).sum())
    without = bandit(rewards, 0.0, 200_000)
    with_baseline = bandit(rewards, baseline, 200_000)
    standard_error = with_baseline.std(dim=0) / math.sqrt(len(with_baseline))
    assert ((with_baseline.mean(dim=0) - analytic).abs() < 4 * standard_error).all()
    assert (with_baseline.var(dim=0) < 0.3 * without.var(dim=0)).all()


def test_moving_baseline_follows_the_paper_s_recursion() -> None:
    baseline = MovingBaseline()
    nothing_before = baseline.compare(torch.tensor([-10.0, -90.0]))
    assert nothing_before.tolist() == [0.0, 0.0]
    baseline.update(-30.0)
    baseline.update(-20.0)
    baseline.update(-10.0)
    assert baseline.value is not None
    assert baseline.value == pytest.approx(0.9 * (0.9 * -30 + 0.1 * -20) + 0.1 * -10)
    assert baseline.compare(torch.tensor([-10.0])).item() == pytest.approx(-10 - baseline.value)


def test_attention_loss_is_least_where_the_map_is_the_target() -> None:
    shares = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.2]])
    target = torch.tensor([[2 / 3, 1 / 3, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert attention_loss(target, shares).item() == pytest.approx(entropy, abs=1e-5)
    others = torch.randn(2, 4, generator=seeded(1)).softmax(dim=-1)
    assert attention_loss(others, shares) > attention_loss(target, shares)


def test_attention_loss_map_beside_the_thing_is_finite_and_no_word_is_zero() -> None:
    beside = attention_loss(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.7, 0.0]]))
    assert math.isfinite(beside.item())
    assert attention_loss(torch.zeros(0, 4), torch.zeros(0, 4)).item() == 0.0
