"""Additive attention against the paper's equations, written out as plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attention import AdditiveAttention

B, G, L, D, A, N = 3, 2, 5, 7, 4, 6


@pytest.fixture
def attention() -> AdditiveAttention:
    torch.manual_seed(0)
    return AdditiveAttention(D, N, A)


@torch.no_grad()
def test_attention_loop_over_equations_4_5_and_13_gives_the_same(attention: AdditiveAttention) -> None:
    annotations, hidden = torch.randn(B, L, D), torch.randn(B * G, N)

    context, alpha = attention(attention.remember(annotations), hidden)

    key, bias, query = attention.key.weight.tolist(), attention.key.bias.tolist(), attention.query.weight.tolist()
    score = attention.score.weight[0].tolist()
    for row in range(B * G):
        picture, h = annotations[row // G].tolist(), hidden[row].tolist()
        energies = []  # e_i = w . tanh(W_a a_i + b + W_h h), equation 4
        for a in picture:
            units = (
                sum(k * x for k, x in zip(key[unit], a, strict=True))
                + bias[unit]
                + sum(q * x for q, x in zip(query[unit], h, strict=True))
                for unit in range(A)
            )
            energies.append(sum(w * math.tanh(unit) for w, unit in zip(score, units, strict=True)))
        total = sum(math.exp(energy) for energy in energies)
        expected_alpha = [math.exp(energy) / total for energy in energies]  # equation 5
        expected_context = [
            sum(p * a[d] for p, a in zip(expected_alpha, picture, strict=True)) for d in range(D)
        ]  # equation 13
        assert alpha[row].tolist() == pytest.approx(expected_alpha, abs=1e-6)
        assert context[row].tolist() == pytest.approx(expected_context, abs=1e-5)


@given(st.integers(0, 2**31), st.sampled_from([1e-3, 1.0, 1e3]))
@settings(max_examples=30)
@torch.no_grad()
def test_attention_alphas_are_non_negative_and_sum_to_one(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    attention = AdditiveAttention(D, N, A)
    annotations = scale * torch.randn(B, L, D, generator=generator)
    hidden = scale * torch.randn(B * G, N, generator=generator)

    context, alpha = attention(attention.remember(annotations), hidden)

    assert alpha.min() >= 0
    torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(B * G))
    assert context.shape == (B * G, D)
    pictures = annotations.repeat_interleave(G, dim=0)  # the context lies between the annotations
    slack = 1e-5 * scale
    assert (context >= pictures.amin(dim=1) - slack).all()
    assert (context <= pictures.amax(dim=1) + slack).all()


@torch.no_grad()
def test_attention_rows_of_a_picture_share_its_memory(attention: AdditiveAttention) -> None:
    annotations, hidden = torch.randn(B, L, D), torch.randn(B * G, N)

    grouped = attention(attention.remember(annotations), hidden)
    repeated = attention(attention.remember(annotations.repeat_interleave(G, dim=0)), hidden)

    for one, other in zip(grouped, repeated, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_attention_batch_equals_single(attention: AdditiveAttention) -> None:
    annotations, hidden = torch.randn(B, L, D), torch.randn(B, N)

    batch = attention(attention.remember(annotations), hidden)

    for picture in range(B):
        rows = slice(picture, picture + 1)
        single = attention(attention.remember(annotations[rows]), hidden[rows])
        torch.testing.assert_close(single[0], batch[0][rows])
        torch.testing.assert_close(single[1], batch[1][rows])


@torch.no_grad()
def test_attention_permuted_locations_permute_alpha_and_keep_the_context(attention: AdditiveAttention) -> None:
    annotations, hidden, order = torch.randn(B, L, D), torch.randn(B, N), torch.randperm(L)

    context, alpha = attention(attention.remember(annotations), hidden)
    context_permuted, alpha_permuted = attention(attention.remember(annotations[:, order]), hidden)

    torch.testing.assert_close(context_permuted, context)
    torch.testing.assert_close(alpha_permuted, alpha[:, order])


@torch.no_grad()
def test_attention_equal_annotations_give_a_uniform_map(attention: AdditiveAttention) -> None:
    annotations = torch.randn(B, 1, D).expand(B, L, D)

    _, alpha = attention(attention.remember(annotations), torch.randn(B, N))

    torch.testing.assert_close(alpha, torch.full((B, L), 1 / L))


@torch.no_grad()
def test_attention_bfloat16_annotations_still_sum_to_one_in_float32(attention: AdditiveAttention) -> None:
    attention = attention.bfloat16()

    _, alpha = attention(attention.remember(torch.randn(B, 196, D).bfloat16()), torch.randn(B, N).bfloat16())

    assert alpha.dtype == torch.float32
    torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(B))
