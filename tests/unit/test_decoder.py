"""The decoder against the paper's equations, and its invariances: step by step, grouped, batched,
reordered."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.decoders.attention import AdditiveAttention
from models.decoders.config import AttentionConfig
from models.decoders.show_attend_tell import AttentionDecoder, AttentionState

B, G, L, D, E, N, A, V, T = 3, 2, 5, 7, 4, 6, 3, 11, 4
GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "decoder_step.json"


def _decoder(dropout: float = 0.5) -> AttentionDecoder:
    torch.manual_seed(0)
    config = AttentionConfig(embed_dim=E, decoder_dim=N, attention_dim=A, dropout=dropout)
    return AttentionDecoder(config, V, D).eval()


@pytest.fixture
def decoder() -> AttentionDecoder:
    return _decoder()


@pytest.fixture
def annotations() -> Tensor:
    return 3 * torch.randn(B, L, D, generator=torch.Generator().manual_seed(1)) + 1


@pytest.fixture
def words() -> Tensor:
    return torch.randint(V, (B * G, T), generator=torch.Generator().manual_seed(2))


def _grouped(decoder: AttentionDecoder, annotations: Tensor) -> AttentionState:
    """A state of G rows for each image."""
    return decoder.init_state(annotations).select(
        torch.arange(len(annotations)).repeat_interleave(G)
    )


@torch.no_grad()
def test_step_equations_of_the_paper_give_the_same(
    decoder: AttentionDecoder, annotations: Tensor
) -> None:
    a = torch.nn.functional.layer_norm(
        annotations, (D,), decoder.normalise.weight, decoder.normalise.bias
    )
    mean = a.mean(dim=1)
    c = torch.tanh(mean @ decoder.init_cell.weight.T + decoder.init_cell.bias)  # f_init,c
    h = torch.tanh(mean @ decoder.init_hidden.weight.T + decoder.init_hidden.bias)  # f_init,h
    token_ids = torch.tensor([1, 5, 9])

    output = decoder.step(token_ids, decoder.init_state(annotations))

    attention = decoder.attention
    assert isinstance(attention, AdditiveAttention)
    energy = (
        torch.tanh(attention.key(a) + attention.query(h).unsqueeze(1)) @ attention.score.weight[0]
    )
    alpha = energy.exp() / energy.exp().sum(dim=1, keepdim=True)  # equations 4 and 5
    beta = 1 / (1 + torch.exp(-(h @ decoder.gate.weight[0] + decoder.gate.bias)))
    z = beta.unsqueeze(1) * (alpha.unsqueeze(2) * a).sum(dim=1)  # section 4.2.1
    ey = decoder.embedding.weight[token_ids]
    # T of equation 1.
    gates = (
        torch.cat([ey, h, z], dim=1)
        @ torch.cat(
            [decoder.lstm_word.weight, decoder.lstm_hidden.weight, decoder.lstm_context.weight],
            dim=1,
        ).T
    )
    i, f, o, g = (gates + decoder.lstm_word.bias).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()  # equation 2
    h = o.sigmoid() * c.tanh()  # equation 3
    deep = (
        ey
        + h @ decoder.readout_hidden.weight.T
        + decoder.readout_hidden.bias
        + z @ decoder.readout_context.weight.T
    )
    logits = deep @ decoder.output.weight.T + decoder.output.bias  # equation 7
    for found, expected in (
        (output.alpha, alpha), (output.beta, beta), (output.logits, logits),
        (output.state.hidden, h), (output.state.cell, c),
    ):  # fmt: skip
        torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_forward_teacher_forcing_equals_repeated_steps(
    decoder: AttentionDecoder, annotations: Tensor, words: Tensor
) -> None:
    state = _grouped(decoder, annotations)

    whole = decoder(words, state)
    logits = decoder.logits(whole.readout)

    for time in range(T):
        output = decoder.step(words[:, time], state)
        state = output.state
        torch.testing.assert_close(output.logits, logits[:, time])
        torch.testing.assert_close(output.alpha, whole.alphas[:, time])
        torch.testing.assert_close(output.beta, whole.betas[:, time])


@torch.no_grad()
def test_forward_rows_that_share_an_image_equal_rows_with_an_image_each(
    decoder: AttentionDecoder, annotations: Tensor, words: Tensor
) -> None:
    shared = decoder(words, _grouped(decoder, annotations))
    own = decoder(words, decoder.init_state(annotations.repeat_interleave(G, dim=0)))

    for one, other in zip(shared[:3], own[:3], strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_select_doubly_grouped_rows_equal_rows_with_an_image_each(
    decoder: AttentionDecoder, annotations: Tensor
) -> None:
    # Captions, then beams.
    twice = _grouped(decoder, annotations).select(torch.arange(B * G).repeat_interleave(3))
    token_ids = torch.arange(B * G * 3) % V

    grouped = decoder.step(token_ids, twice)
    own = decoder.step(token_ids, decoder.init_state(annotations.repeat_interleave(G * 3, dim=0)))

    for one, other in (
        (grouped.logits, own.logits),
        (grouped.alpha, own.alpha),
        (grouped.beta, own.beta),
    ):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_forward_batch_equals_single(
    decoder: AttentionDecoder, annotations: Tensor, words: Tensor
) -> None:
    batch = decoder(words, _grouped(decoder, annotations))

    for row in range(B * G):
        image = row // G
        single = decoder(words[row : row + 1], decoder.init_state(annotations[image : image + 1]))
        for one, other in zip(single[:3], batch[:3], strict=True):
            torch.testing.assert_close(one[0], other[row])


@torch.no_grad()
def test_select_rows_in_another_order_gives_their_outputs_in_that_order(
    decoder: AttentionDecoder, annotations: Tensor, words: Tensor
) -> None:
    state = decoder.step(words[:, 0], _grouped(decoder, annotations)).state
    order = torch.tensor([1, 0, 3, 3, 4, 5])  # within each image: swapped, one row twice, kept

    straight = decoder.step(words[:, 1], state)
    selected = decoder.step(words[order, 1], state.select(order))

    torch.testing.assert_close(selected.logits, straight.logits[order])
    torch.testing.assert_close(selected.alpha, straight.alpha[order])
    torch.testing.assert_close(selected.state.hidden, straight.state.hidden[order])


@torch.no_grad()
def test_step_same_state_twice_gives_the_same(
    decoder: AttentionDecoder, annotations: Tensor
) -> None:
    state = decoder.init_state(annotations)
    token_ids = torch.tensor([1, 1, 4])
    before = [state.hidden.clone(), state.cell.clone()]

    first = decoder.step(token_ids, state)
    second = decoder.step(token_ids, state)

    assert torch.equal(first.logits, second.logits)
    assert torch.equal(before[0], state.hidden)
    assert torch.equal(before[1], state.cell)


@torch.no_grad()
def test_step_alphas_sum_to_one_and_betas_are_gates(
    decoder: AttentionDecoder, annotations: Tensor
) -> None:
    output = decoder.step(torch.tensor([1, 2, 3]), decoder.init_state(annotations))

    torch.testing.assert_close(output.alpha.sum(dim=1), torch.ones(B))
    assert output.beta.shape == (B,)
    assert ((output.beta > 0) & (output.beta < 1)).all()


@torch.no_grad()
def test_step_closed_gate_leaves_the_image_out(
    decoder: AttentionDecoder, annotations: Tensor
) -> None:
    decoder.gate.bias.fill_(-1e4)
    token_ids = torch.tensor([1, 2, 3])
    state = decoder.init_state(annotations)

    closed = decoder.step(token_ids, state)
    blind = decoder.step(token_ids, AttentionState(state.hidden, state.cell, None))

    assert closed.beta.tolist() == [0.0] * B
    torch.testing.assert_close(closed.logits, blind.logits)


@torch.no_grad()
def test_blank_state_needs_no_image_and_equals_zero_context(
    decoder: AttentionDecoder, words: Tensor
) -> None:
    state = decoder.blank_state(B * G)

    whole = decoder(words, state)
    logits = decoder.logits(whole.readout)

    assert whole.betas.count_nonzero() == 0
    for time in range(T):
        output = decoder.step(words[:, time], state)
        state = output.state.select(torch.arange(B * G))
        torch.testing.assert_close(output.logits, logits[:, time])
    assert state.keys is None


def test_blank_state_gradients_reach_the_language_and_not_the_eyes(
    decoder: AttentionDecoder, words: Tensor
) -> None:
    decoder.logits(decoder(words, decoder.blank_state(B * G)).readout).sum().backward()

    untouched = {
        name for name, parameter in decoder.named_parameters()
        if parameter.grad is None or parameter.grad.count_nonzero() == 0
    }  # fmt: skip
    eyes = {
        "normalise",
        "attention",
        "init_hidden",
        "init_cell",
        "gate",
        "lstm_context",
        "readout_context",
    }
    assert {name.split(".")[0] for name in untouched} == eyes


def test_forward_gradients_reach_every_parameter(
    decoder: AttentionDecoder, annotations: Tensor, words: Tensor
) -> None:
    decoder.logits(decoder(words, _grouped(decoder, annotations)).readout).logsumexp(
        dim=-1
    ).sum().backward()

    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


def test_forward_dropout_acts_in_training_only(annotations: Tensor, words: Tensor) -> None:
    decoder = _decoder(dropout=0.5)
    state = _grouped(decoder, annotations)

    calm = [decoder(words, state).readout for _ in range(2)]
    decoder.train()
    noisy = [decoder(words, state).readout for _ in range(2)]

    assert torch.equal(*calm)
    assert not torch.equal(*noisy)


@torch.no_grad()
def test_init_state_scale_of_the_annotations_does_not_matter(
    decoder: AttentionDecoder, annotations: Tensor
) -> None:
    token_ids = torch.tensor([1, 2, 3])

    one = decoder.step(token_ids, decoder.init_state(annotations))
    other = decoder.step(token_ids, decoder.init_state(13 * annotations))

    torch.testing.assert_close(one.logits, other.logits, atol=1e-4, rtol=1e-4)


def test_decoder_parameter_names_and_shapes_are_those_of_shipped_weights(
    decoder: AttentionDecoder,
) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))

    assert {name: list(tensor.shape) for name, tensor in decoder.state_dict().items()} == golden[
        "shapes"
    ]


@torch.no_grad()
def test_step_fixed_weights_give_the_golden_numbers() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    decoder = _decoder()
    parameters = decoder.state_dict()
    for index, name in enumerate(golden["shapes"]):  # a formula, not a random generator's state
        parameter = parameters[name]
        parameter.copy_(_wave(parameter.numel(), index).view(parameter.shape))
    annotations = 5 * _wave(B * L * D, 100).view(B, L, D)
    state = decoder.init_state(annotations)

    for step in golden["steps"]:
        output = decoder.step(torch.tensor(step["token_ids"]), state)
        state = output.state
        torch.testing.assert_close(
            output.logits, torch.tensor(step["logits"]), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(output.alpha, torch.tensor(step["alpha"]), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(output.beta, torch.tensor(step["beta"]), atol=1e-5, rtol=1e-5)


def _wave(count: int, phase: int) -> Tensor:
    """`count` fixed numbers in [-0.6, 0.6] that look random."""
    return (0.6 * torch.sin(1.7 * torch.arange(count, dtype=torch.float64) ** 1.3 + phase)).float()
