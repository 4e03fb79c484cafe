"""Every kind of attention: additive against the paper's equations as plain loops, and what holds of
all of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decoders.attention import (
    AdditiveAttention,
    Attention,
    CosineAttention,
    DotProductAttention,
    build_attention,
)
from models.decoders.config import AttentionKind

B, G, L, D, A, N = 3, 2, 5, 7, 4, 6


SOFT: tuple[AttentionKind, ...] = ("additive", "dot-product", "cosine")
KINDS: tuple[AttentionKind, ...] = (*SOFT, "hard")


def _build(kind: AttentionKind) -> Attention:
    torch.manual_seed(0)
    return build_attention(kind, D, N, A).eval()


@pytest.fixture(params=KINDS)
def attention(request: pytest.FixtureRequest) -> Attention:
    return _build(request.param)


@torch.no_grad()
def test_additive_attention_loop_over_equations_4_5_and_13_gives_the_same() -> None:
    attention = _build("additive")
    assert isinstance(attention, AdditiveAttention)
    annotations = torch.randn(B, L, D)
    hidden = torch.randn(B * G, N)

    context, alpha, *_ = attention(attention.project_keys(annotations), hidden)

    key = attention.key.weight.tolist()
    bias = attention.key.bias.tolist()
    query = attention.query.weight.tolist()
    score = attention.score.weight[0].tolist()
    for row in range(B * G):
        image, h = annotations[row // G].tolist(), hidden[row].tolist()
        energies = []  # e_i = w . tanh(W_a a_i + b + W_h h), equation 4
        for a in image:
            units = (
                sum(k * x for k, x in zip(key[unit], a, strict=True))
                + bias[unit]
                + sum(q * x for q, x in zip(query[unit], h, strict=True))
                for unit in range(A)
            )
            energies.append(sum(w * math.tanh(unit) for w, unit in zip(score, units, strict=True)))
        total = sum(math.exp(energy) for energy in energies)
        expected_alpha = [math.exp(energy) / total for energy in energies]  # equation 5
        # Equation 13.
        expected_context = [
            sum(p * a[d] for p, a in zip(expected_alpha, image, strict=True)) for d in range(D)
        ]
        assert alpha[row].tolist() == pytest.approx(expected_alpha, abs=1e-6)
        assert context[row].tolist() == pytest.approx(expected_context, abs=1e-5)


@given(
    st.integers(0, 2**31),
    st.sampled_from([1e-3, 1.0, 1e3]),
    st.sampled_from(("additive", "cosine", "hard")),
)
@settings(max_examples=60)
@torch.no_grad()
def test_attention_alphas_sum_to_one_and_the_context_lies_between(
    seed: int, scale: float, kind: AttentionKind
) -> None:
    generator = torch.Generator().manual_seed(seed)
    attention = _build(kind)
    annotations = scale * torch.randn(B, L, D, generator=generator)
    hidden = scale * torch.randn(B * G, N, generator=generator)

    context, alpha, *_ = attention(attention.project_keys(annotations), hidden)

    assert alpha.min() >= 0
    torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(B * G))
    assert context.shape == (B * G, D)
    images = annotations.repeat_interleave(G, dim=0)  # the context lies between the annotations
    slack = 1e-5 * scale
    assert (context >= images.amin(dim=1) - slack).all()
    assert (context <= images.amax(dim=1) + slack).all()


@torch.no_grad()
def test_attention_rows_of_an_image_share_its_keys(attention: Attention) -> None:
    annotations = torch.randn(B, L, D)
    hidden = torch.randn(B * G, N)

    grouped = attention(attention.project_keys(annotations), hidden)[:2]
    repeated = attention(attention.project_keys(annotations.repeat_interleave(G, dim=0)), hidden)[
        :2
    ]

    for one, other in zip(grouped, repeated, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_attention_batch_equals_single(attention: Attention) -> None:
    annotations = torch.randn(B, L, D)
    hidden = torch.randn(B, N)

    batch = attention(attention.project_keys(annotations), hidden)

    for image in range(B):
        rows = slice(image, image + 1)
        single = attention(attention.project_keys(annotations[rows]), hidden[rows])
        torch.testing.assert_close(single[0], batch[0][rows])
        torch.testing.assert_close(single[1], batch[1][rows])


@torch.no_grad()
def test_attention_permuted_locations_permute_alpha_and_keep_the_context(
    attention: Attention,
) -> None:
    annotations = torch.randn(B, L, D)
    hidden = torch.randn(B, N)
    order = torch.randperm(L)

    context, alpha, *_ = attention(attention.project_keys(annotations), hidden)
    context_permuted, alpha_permuted, *_ = attention(
        attention.project_keys(annotations[:, order]), hidden
    )

    torch.testing.assert_close(context_permuted, context)
    torch.testing.assert_close(alpha_permuted, alpha[:, order])


@pytest.mark.parametrize("kind", SOFT)
@torch.no_grad()
def test_attention_equal_annotations_give_a_uniform_map(kind: AttentionKind) -> None:
    attention = _build(kind)
    annotations = torch.randn(B, 1, D).expand(B, L, D)

    _, alpha, *_ = attention(attention.project_keys(annotations), torch.randn(B, N))

    torch.testing.assert_close(alpha, torch.full((B, L), 1 / L))


@torch.no_grad()
def test_attention_bfloat16_annotations_still_sum_to_one_in_float32(attention: Attention) -> None:
    attention = attention.bfloat16()

    _, alpha, *_ = attention(
        attention.project_keys(torch.randn(B, 196, D).bfloat16()), torch.randn(B, N).bfloat16()
    )

    assert alpha.dtype == torch.float32
    torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(B))


@torch.no_grad()
def test_dot_product_attention_is_scaled_softmax_of_query_and_key_over_values() -> None:
    attention = _build("dot-product")
    assert isinstance(attention, DotProductAttention)
    attention.value.weight.normal_()
    annotations = torch.randn(B, L, D)
    hidden = torch.randn(B, N)

    context, alpha, *_ = attention(attention.project_keys(annotations), hidden)

    for row in range(B):
        query = attention.query(hidden[row])
        energy = torch.stack(
            [query @ attention.key(place) / math.sqrt(A) for place in annotations[row]]
        )
        torch.testing.assert_close(alpha[row], energy.softmax(dim=0))
        values = torch.stack([attention.value(place) for place in annotations[row]])
        torch.testing.assert_close(context[row], alpha[row] @ values)


@torch.no_grad()
def test_cosine_attention_knows_directions_alone_and_sharpens_with_its_temperature() -> None:
    attention = _build("cosine")
    assert isinstance(attention, CosineAttention)
    attention.key.bias.zero_()
    annotations = torch.randn(B, L, D)
    hidden = torch.randn(B, N)

    plain = attention(attention.project_keys(annotations), hidden).alpha
    longer = attention(attention.project_keys(7 * annotations), hidden).alpha
    query = attention.query(hidden)[0]
    key = attention.key(annotations)[0]
    cosine = torch.nn.functional.cosine_similarity(query, key, dim=-1)
    attention.log_temperature.fill_(math.log(1e-3))
    sharp = attention(attention.project_keys(annotations), hidden).alpha

    torch.testing.assert_close(longer, plain)
    torch.testing.assert_close(plain[0], (cosine / 0.1).softmax(dim=0))
    assert sharp.max(dim=1).values.min() > plain.max(dim=1).values.max()


@torch.no_grad()
def test_hard_attention_in_evaluation_is_one_hot_at_the_most_probable_place() -> None:
    hard = _build("hard")
    soft = _build("additive")
    annotations = torch.randn(B, L, D)
    hidden = torch.randn(B * G, N)

    context, alpha, logprob, entropy = hard(hard.project_keys(annotations), hidden)
    likely = soft(soft.project_keys(annotations), hidden).alpha.argmax(dim=1)

    assert alpha.unique().tolist() == [0.0, 1.0]
    assert alpha.argmax(dim=1).tolist() == likely.tolist()
    torch.testing.assert_close(
        context, annotations.repeat_interleave(G, dim=0)[torch.arange(B * G), likely]
    )
    assert logprob is None
    assert entropy is None


@torch.no_grad()
def test_hard_attention_in_training_draws_from_alpha_or_takes_a_whole_image_s_expectation() -> None:
    hard = _build("hard").train()
    soft = _build("additive")
    images = 400
    rows = 50
    annotations = torch.randn(1, L, D).expand(images, L, D)
    hidden = torch.randn(1, N).expand(images * rows, N)
    expectation = soft(soft.project_keys(annotations[:1]), hidden[:1]).alpha[0]

    keys = hard.project_keys(annotations)
    _, alpha, logprob, entropy = hard(keys, hidden)

    assert keys.expected is not None
    expected = keys.expected.flatten().repeat_interleave(rows)
    drawn = alpha[~expected]
    assert 0.4 < keys.expected.float().mean() < 0.6
    torch.testing.assert_close(alpha[expected], expectation.expand(int(expected.sum()), L))
    assert drawn.unique().tolist() == [0.0, 1.0]
    torch.testing.assert_close(drawn.mean(dim=0), expectation, atol=0.03, rtol=0)
    torch.testing.assert_close(logprob[~expected], expectation.log()[drawn.argmax(dim=1)])
    assert logprob[expected].count_nonzero() == 0
    torch.testing.assert_close(
        entropy, -(expectation * expectation.log()).sum().expand(len(entropy))
    )
