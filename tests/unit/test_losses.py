"""The losses against their formulas, written out plainly."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.corpus import seeded
from training.losses import caption_loss, doubly_stochastic_penalty


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@given(seed=st.integers(0, 1000))
def test_caption_loss_equals_the_plain_formula(smoothing: float, seed: int) -> None:
    """Smoothing s puts (1 - s) of the mass on the target and s / V on every word."""
    words, size = 6, 9
    logits = 3 * torch.randn(words, size, generator=seeded(seed))
    targets = torch.randint(size, (words,), generator=seeded(seed, 1))
    expected = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        log_total = math.log(sum(math.exp(logit) for logit in row))
        for word, logit in enumerate(row):
            share = smoothing / size + (1 - smoothing) * (word == target)
            expected -= share * (logit - log_total)
    assert caption_loss(logits, targets, label_smoothing=smoothing).item() == pytest.approx(expected, rel=1e-5)


def test_caption_loss_is_a_sum_so_that_processes_can_add_theirs() -> None:
    logits, targets = torch.randn(8, 5, generator=seeded(0)), torch.arange(8) % 5
    parts = [caption_loss(logits[half], targets[half], label_smoothing=0.1) for half in (slice(0, 3), slice(3, 8))]
    torch.testing.assert_close(sum(parts), caption_loss(logits, targets, label_smoothing=0.1))


def test_caption_loss_half_precision_logits_are_summed_in_float32() -> None:
    loss = caption_loss(
        torch.zeros(100_000, 4, dtype=torch.bfloat16), torch.zeros(100_000, dtype=torch.long), label_smoothing=0.0
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(100_000 * math.log(4), rel=1e-4)


def test_caption_loss_without_words_is_zero_with_a_gradient() -> None:
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = caption_loss(logits, torch.zeros(0, dtype=torch.long), label_smoothing=0.1)
    loss.backward()
    assert loss.item() == 0.0


def plain_penalty(alphas: list[list[list[float]]], mask: list[list[bool]]) -> float:
    """Equation 14's second term as a loop: mean over captions and locations of (1 - sum_t alpha_ti)^2."""
    captions = [row for row in range(len(mask)) if any(mask[row])]
    total = 0.0
    for row in captions:
        locations = len(alphas[row][0])
        for location in range(locations):
            seen = sum(alphas[row][time][location] for time, there in enumerate(mask[row]) if there)
            total += (1 - seen) ** 2 / locations
    return total / len(captions)


@given(seed=st.integers(0, 1000), rows=st.integers(1, 4), length=st.integers(1, 5), locations=st.integers(1, 6))
def test_doubly_stochastic_penalty_equals_the_plain_loop(seed: int, rows: int, length: int, locations: int) -> None:
    alphas = torch.randn(rows, length, locations, generator=seeded(seed)).softmax(dim=-1)
    lengths = torch.randint(0, length + 1, (rows,), generator=seeded(seed, 1))
    lengths[0] = length  # one caption at least
    mask = torch.arange(length) < lengths.unsqueeze(1)
    expected = plain_penalty(alphas.tolist(), mask.tolist())
    assert doubly_stochastic_penalty(alphas, mask).item() == pytest.approx(expected, rel=1e-5)


def test_doubly_stochastic_penalty_every_place_looked_at_once_is_zero() -> None:
    alphas = torch.eye(4).unsqueeze(0)
    assert doubly_stochastic_penalty(alphas, torch.ones(1, 4, dtype=torch.bool)).item() == 0.0


def test_doubly_stochastic_penalty_rows_of_pad_alone_do_not_count() -> None:
    alphas = torch.randn(2, 3, 4, generator=seeded(3)).softmax(dim=-1)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(doubly_stochastic_penalty(alphas, mask), doubly_stochastic_penalty(alphas[:1], mask[:1]))
