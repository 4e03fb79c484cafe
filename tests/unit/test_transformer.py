"""The Transformer decoder against its equations, and its invariances: cached, causal, grouped,
batched, reordered."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models.decoders.config import AttentionConfig, TransformerConfig
from models.decoders.show_attend_tell import AttentionDecoder
from models.decoders.transformer import TransformerDecoder, TransformerState
from models.errors import ConfigError
from models.multihead_attention import MultiHeadAttention
from tests.unit.toy_transformer import HEADS, B, D, E, G, L, T, V, random_annotations, small_decoder


@pytest.fixture
def decoder() -> TransformerDecoder:
    return small_decoder()


@pytest.fixture
def annotations() -> Tensor:
    return random_annotations()


@pytest.fixture
def words() -> Tensor:
    return torch.randint(V, (B * G, T), generator=torch.Generator().manual_seed(2))


def _layer(decoder: TransformerDecoder, index: int) -> Any:
    """One layer, whose parts go by the names that they have in shipped weights."""
    return decoder.layers[index]


def _grouped(decoder: TransformerDecoder, annotations: Tensor, rows: int = G) -> TransformerState:
    """A state of `rows` rows for each image."""
    return decoder.init_state(annotations).select(
        torch.arange(len(annotations)).repeat_interleave(rows)
    )


def _assert_steps_equal(
    decoder: TransformerDecoder,
    words: Tensor,
    state: TransformerState,
    logits: Tensor,
    alphas: Tensor,
) -> None:
    for time in range(words.shape[1]):
        output = decoder.step(words[:, time], state)
        state = output.state
        torch.testing.assert_close(output.logits, logits[:, time], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(output.alpha, alphas[:, time], atol=1e-5, rtol=1e-5)
        assert torch.equal(output.beta, torch.ones(len(words)))


@torch.no_grad()
def test_forward_teacher_forcing_equals_repeated_steps(
    decoder: TransformerDecoder, annotations: Tensor, words: Tensor
) -> None:
    state = _grouped(decoder, annotations)

    whole = decoder(words, state)

    _assert_steps_equal(decoder, words, state, decoder.logits(whole.readout), whole.alphas)


@torch.no_grad()
def test_forward_behind_words_in_the_state_equals_forward_of_all(
    decoder: TransformerDecoder, annotations: Tensor, words: Tensor
) -> None:
    state = _grouped(decoder, annotations)
    whole = decoder(words, state)

    rest = decoder(words[:, 1:], decoder.step(words[:, 0], state).state)

    torch.testing.assert_close(rest.readout, whole.readout[:, 1:])
    torch.testing.assert_close(rest.alphas, whole.alphas[:, 1:])


@torch.no_grad()
def test_select_reordered_rows_go_on_from_their_own_past(
    decoder: TransformerDecoder, annotations: Tensor, words: Tensor
) -> None:
    state = _grouped(decoder, annotations)
    for time in range(2):
        state = decoder.step(words[:, time], state).state
    indices = torch.tensor([1, 0, 3, 3, 4, 5])  # swapped, both from one, kept

    reordered = state.select(indices)

    # The words of the rows as if written so from the first.
    rewritten = torch.cat([words[indices, :2], words[:, 2:]], dim=1)
    whole = decoder(rewritten, _grouped(decoder, annotations))
    _assert_steps_equal(
        decoder,
        rewritten[:, 2:],
        reordered,
        decoder.logits(whole.readout[:, 2:]),
        whole.alphas[:, 2:],
    )


@torch.no_grad()
def test_select_memory_of_the_images_is_shared_not_copied(
    decoder: TransformerDecoder, annotations: Tensor
) -> None:
    state = decoder.init_state(annotations)

    assert state.select(torch.arange(B).repeat_interleave(G)).image is state.image


@torch.no_grad()
def test_step_does_not_change_the_state_that_it_is_given(
    decoder: TransformerDecoder, annotations: Tensor
) -> None:
    state = decoder.init_state(annotations)
    token_ids = torch.tensor([1, 2, 3])
    once = decoder.step(token_ids, state)
    decoder.step(token_ids, once.state)

    again = decoder.step(token_ids, state)

    assert torch.equal(again.logits, once.logits)
    assert [layer.keys.shape[2] for layer in state.past] == [0, 0]
    assert [layer.keys.shape[2] for layer in once.state.past] == [1, 1]


@torch.no_grad()
@pytest.mark.parametrize("time", range(1, T))
def test_forward_later_word_changes_no_earlier_readout(
    decoder: TransformerDecoder, annotations: Tensor, words: Tensor, time: int
) -> None:
    state = _grouped(decoder, annotations)
    other = words.clone()
    other[:, time] = (other[:, time] + 1) % V

    before = decoder(words, state)
    after = decoder(other, state)

    torch.testing.assert_close(after.readout[:, :time], before.readout[:, :time])
    torch.testing.assert_close(after.alphas[:, :time], before.alphas[:, :time])
    moved = (after.readout[:, time:] - before.readout[:, time:]).abs().amax(dim=2)
    assert bool((moved > 1e-3).all())  # it and all after it do change


@torch.no_grad()
def test_forward_order_of_the_words_matters(
    decoder: TransformerDecoder, annotations: Tensor
) -> None:
    state = decoder.init_state(annotations[:1])

    one, other = (
        decoder(torch.tensor([ids]), state).readout[0, -1] for ids in ([4, 5, 6], [5, 4, 6])
    )

    assert not torch.allclose(one, other, atol=1e-3)


@torch.no_grad()
def test_forward_alphas_sum_to_one_and_are_the_mean_of_the_last_layer_s_heads(
    decoder: TransformerDecoder, annotations: Tensor, words: Tensor
) -> None:
    seen: list[tuple[Any, ...]] = []
    last: MultiHeadAttention = _layer(decoder, -1).picture
    last.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output[1])))
    output = decoder(words, _grouped(decoder, annotations))

    (asked, known, *_), query, width = seen[0], last.query(seen[0][0]), E // HEADS
    heads = []
    for head in range(HEADS):  # each by equation 1 of Vaswani et al.
        q = query[..., head * width : (head + 1) * width]
        heads.append((q @ known.keys[:, head].transpose(1, 2) / math.sqrt(width)).softmax(dim=-1))
    assert asked.shape == (B, G * T, E)
    torch.testing.assert_close(output.alphas, torch.stack(heads).mean(dim=0).view(B * G, T, L))
    torch.testing.assert_close(output.alphas.sum(dim=-1), torch.ones(B * G, T))
    assert bool((output.alphas >= 0).all())


@torch.no_grad()
def test_multihead_attention_equals_torch_s_own() -> None:
    torch.manual_seed(0)
    ours = MultiHeadAttention(E, HEADS).eval()
    theirs = torch.nn.MultiheadAttention(E, HEADS, batch_first=True).eval()
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(E), ours.value.bias]))
    theirs.out_proj.load_state_dict(ours.merge.state_dict())
    x, asked = torch.randn(2, T, E), torch.randn(2, L, E)
    mask = torch.rand(T, L) < 0.6
    mask[:, 0] = True

    answers, weights = ours(x, ours.project_keys(asked), mask)

    expected, expected_weights = theirs(
        x, asked, asked, attn_mask=~mask, average_attn_weights=False
    )
    torch.testing.assert_close(answers, expected)
    torch.testing.assert_close(weights, expected_weights)


@torch.no_grad()
def test_forward_positions_are_the_sinusoids_of_the_paper(annotations: Tensor) -> None:
    decoder = small_decoder()
    entered: list[Tensor] = []
    _layer(decoder, 0).words_norm.register_forward_hook(
        lambda _, inputs, __: entered.append(inputs[0])
    )

    decoder(torch.full((B, 40), 5), decoder.init_state(annotations))

    word = decoder.embedding_norm(decoder.embedding.weight[5])
    for place in (0, 1, 39):
        for index in range(E // 2):
            angle = place / 10_000 ** (2 * index / E)
            expected = torch.tensor([math.sin(angle), math.cos(angle)])
            found = (entered[0][0, place] - word)[2 * index : 2 * index + 2]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_forward_rows_that_share_an_image_equal_rows_with_an_image_each(
    decoder: TransformerDecoder, annotations: Tensor, words: Tensor
) -> None:
    shared = decoder(words, _grouped(decoder, annotations))
    own = decoder(words, decoder.init_state(annotations.repeat_interleave(G, dim=0)))

    for one, other in zip(shared[:3], own[:3], strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_forward_batch_equals_single(
    decoder: TransformerDecoder, annotations: Tensor, words: Tensor
) -> None:
    batch = decoder(words[::G], decoder.init_state(annotations))

    for index in range(B):
        row = slice(index, index + 1)
        single = decoder(words[::G][row], decoder.init_state(annotations[row]))
        for one, other in zip(single[:3], batch[:3], strict=True):
            torch.testing.assert_close(one, other[row])


@torch.no_grad()
def test_blank_state_equals_cross_attention_that_adds_nothing(
    decoder: TransformerDecoder, words: Tensor
) -> None:
    state = decoder.blank_state(B * G)
    blank = decoder(words, state)
    for time in range(T):
        output = decoder.step(words[:, time], state)
        state = output.state
        torch.testing.assert_close(
            output.logits, decoder.logits(blank.readout)[:, time], atol=1e-5, rtol=1e-5
        )
    for index in range(len(decoder.layers)):
        merge = _layer(decoder, index).picture.merge
        merge.weight.zero_()
        merge.bias.zero_()

    deaf = decoder(words, _grouped(decoder, torch.randn(B, L, D)))

    torch.testing.assert_close(blank.readout, deaf.readout)
    assert blank.alphas.shape == (B * G, T, 1)
    assert (blank.alphas.count_nonzero(), blank.betas.count_nonzero()) == (0, 0)


def test_blank_state_gradients_reach_all_but_what_sees(
    decoder: TransformerDecoder, words: Tensor
) -> None:
    decoder.logits(decoder(words, decoder.blank_state(B * G)).readout).logsumexp(
        dim=-1
    ).sum().backward()

    for name, parameter in decoder.named_parameters():
        sees = name.startswith(("normalise", "project")) or ".picture" in name
        touched = parameter.grad is not None and bool(parameter.grad.count_nonzero())
        assert touched != sees, name


def test_forward_gradients_reach_every_parameter(
    decoder: TransformerDecoder, annotations: Tensor, words: Tensor
) -> None:
    decoder.logits(decoder(words, _grouped(decoder, annotations)).readout).logsumexp(
        dim=-1
    ).sum().backward()

    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


def test_forward_loss_on_alphas_teaches_the_last_layer_s_queries_and_keys(
    decoder: TransformerDecoder, annotations: Tensor, words: Tensor
) -> None:
    decoder(words, _grouped(decoder, annotations)).alphas[..., 0].log().sum().backward()

    image = _layer(decoder, -1).picture
    assert image.query.weight.grad.count_nonzero() > 0
    assert image.key.weight.grad.count_nonzero() > 0
    assert image.value.weight.grad is None


def test_forward_dropout_acts_in_training_only(annotations: Tensor, words: Tensor) -> None:
    decoder = small_decoder(dropout=0.5)
    state = _grouped(decoder, annotations)

    calm = [decoder(words, state).readout for _ in range(2)]
    decoder.train()
    noisy = [decoder(words, state).readout for _ in range(2)]

    assert torch.equal(*calm)
    assert not torch.equal(*noisy)


def test_forward_under_bfloat16_is_near_and_its_gradients_are_finite(
    annotations: Tensor, words: Tensor
) -> None:
    decoder = small_decoder(dropout=0.0)
    exact = decoder(words, _grouped(decoder, annotations))

    with torch.autocast("cpu", torch.bfloat16):
        state = _grouped(decoder, annotations)
        output = decoder(words, state)
        stepped = decoder.step(words[:, 1], decoder.step(words[:, 0], state).state)
    output.readout.square().sum().backward()

    assert (output.readout.dtype, output.alphas.dtype, stepped.alpha.dtype) == (torch.float32,) * 3
    assert stepped.state.past[0].keys.dtype == torch.bfloat16
    torch.testing.assert_close(output.readout, exact.readout, atol=0.1, rtol=0)
    torch.testing.assert_close(output.alphas.sum(dim=-1), torch.ones(B * G, T))
    torch.testing.assert_close(stepped.alpha, output.alphas[:, 1], atol=0.01, rtol=0)
    assert all(bool(p.grad.isfinite().all()) for p in decoder.parameters() if p.grad is not None)


@torch.no_grad()
def test_init_state_scale_of_the_annotations_does_not_matter(
    decoder: TransformerDecoder, annotations: Tensor
) -> None:
    token_ids = torch.tensor([1, 2, 3])

    one = decoder.step(token_ids, decoder.init_state(annotations))
    other = decoder.step(token_ids, decoder.init_state(13 * annotations))

    torch.testing.assert_close(one.logits, other.logits, atol=1e-4, rtol=1e-4)


def test_decoder_shared_tensors_have_the_names_and_shapes_of_the_attention_decoder_s(
    decoder: TransformerDecoder,
) -> None:
    other = AttentionDecoder(AttentionConfig(embed_dim=E, decoder_dim=6, attention_dim=3), V, D)
    shapes = {name: tensor.shape for name, tensor in decoder.state_dict().items()}

    for name, tensor in other.state_dict().items():
        if name.startswith(("normalise.", "embedding.", "output.")):
            assert shapes[name] == tensor.shape


@pytest.mark.parametrize(("embed_dim", "heads"), [(12, 5), (9, 3)])
def test_decoder_width_that_cannot_be_split_is_refused(embed_dim: int, heads: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"even and a multiple of its {heads} heads, not {embed_dim}"
    ):
        TransformerDecoder(
            TransformerConfig(embed_dim=embed_dim, decoder_dim=8, layers=1, heads=heads), V, D
        )
