"""The decoders that see one vector: against their papers' equations, and the invariances of every
decoder."""

from typing import Literal, get_args

import pytest
import torch
from torch import Tensor

from models.config import DecodingOptions
from models.decoders.config import LRCNConfig, NICConfig
from models.decoders.image_vector import VectorDecoder, VectorState
from models.decoders.lrcn import LRCNDecoder
from models.decoders.show_and_tell import NICDecoder
from models.decoding import decode
from models.features import ImageFeatures
from models.runtime.torch import TorchSteps

B, G, L, D, E, N, V, T = 3, 2, 5, 7, 4, 6, 11, 4
LRCNKind = Literal["lrcn-unfactored", "lrcn-factored"]
KINDS = ("nic", *get_args(LRCNKind))


def _nic(dropout: float = 0.5) -> NICDecoder:
    torch.manual_seed(0)
    return NICDecoder(NICConfig(embed_dim=E, decoder_dim=N, dropout=dropout), V, D).eval()


def _lrcn(kind: LRCNKind, dropout: float = 0.5) -> LRCNDecoder:
    torch.manual_seed(0)
    config = LRCNConfig(kind=kind, embed_dim=E, decoder_dim=N, dropout=dropout)
    return LRCNDecoder(config, V, D).eval()


def _decoder(kind: Literal["nic"] | LRCNKind, dropout: float = 0.5) -> VectorDecoder:
    return _nic(dropout) if kind == "nic" else _lrcn(kind, dropout)


@pytest.fixture(params=KINDS)
def decoder(request: pytest.FixtureRequest) -> VectorDecoder:
    return _decoder(request.param)


@pytest.fixture
def annotations() -> Tensor:
    return 3 * torch.randn(B, L, D, generator=torch.Generator().manual_seed(1)) + 1


@pytest.fixture
def words() -> Tensor:
    return torch.randint(V, (B * G, T), generator=torch.Generator().manual_seed(2))


def _grouped(decoder: VectorDecoder, annotations: Tensor) -> VectorState:
    state: VectorState = decoder.init_state(annotations).select(
        torch.arange(len(annotations)).repeat_interleave(G)
    )
    return state


def _vector(decoder: VectorDecoder, annotations: Tensor) -> Tensor:
    normed = torch.nn.functional.layer_norm(
        annotations, (D,), decoder.normalise.weight, decoder.normalise.bias
    )
    return normed.mean(dim=1)


def _cell(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM cell after its matrices: x and h (R, 4N) added up."""
    i, f, o, g = (x + h).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@torch.no_grad()
def test_nic_step_sees_the_image_once_before_the_first_word(annotations: Tensor) -> None:
    decoder = _nic()
    token_ids = torch.tensor([1, 5, 9])
    output = decoder.step(token_ids, decoder.init_state(annotations))

    zeros = torch.zeros(B, N)
    x = decoder.picture(_vector(decoder, annotations))  # x_{-1} = W_I CNN(I), equation 10
    h, c = _cell(decoder.lstm_word(x), decoder.lstm_hidden(zeros), zeros)
    # Equations 11 and 12.
    h, c = _cell(decoder.lstm_word(decoder.embedding(token_ids)), decoder.lstm_hidden(h), c)
    torch.testing.assert_close(output.logits, decoder.output(decoder.readout_hidden(h)))
    assert output.beta.tolist() == [0.0] * B


@torch.no_grad()
def test_lrcn_unfactored_step_adds_the_vector_to_the_word(annotations: Tensor) -> None:
    decoder = _lrcn("lrcn-unfactored")
    token_ids = torch.tensor([1, 5, 9])
    output = decoder.step(token_ids, decoder.init_state(annotations))

    zeros = torch.zeros(B, N)
    image = decoder.lstm_picture(torch.tanh(decoder.picture(_vector(decoder, annotations))))
    h, _ = _cell(
        decoder.lstm_word(decoder.embedding(token_ids)) + image, decoder.lstm_hidden(zeros), zeros
    )
    torch.testing.assert_close(output.logits, decoder.output(decoder.readout_hidden(h)))


@torch.no_grad()
def test_lrcn_factored_first_layer_knows_words_alone_and_the_second_the_image(
    annotations: Tensor,
) -> None:
    decoder = _lrcn("lrcn-factored")
    token_ids = torch.tensor([1, 5, 9])
    one = decoder.step(token_ids, decoder.init_state(annotations))
    other = decoder.step(token_ids, decoder.init_state(annotations.flip(2)))

    assert torch.equal(one.state.hiddens[0], other.state.hiddens[0])
    assert not torch.allclose(one.state.hiddens[1], other.state.hiddens[1])
    zeros = torch.zeros(B, N)
    image = decoder.lstm_picture(torch.tanh(decoder.picture(_vector(decoder, annotations))))
    below, _ = _cell(
        decoder.lstm_word(decoder.embedding(token_ids)), decoder.lstm_hidden(zeros), zeros
    )
    above, _ = _cell(decoder.lstm_below(below) + image, decoder.lstm_above(zeros), zeros)
    torch.testing.assert_close(one.logits, decoder.output(decoder.readout_hidden(above)))


@torch.no_grad()
def test_forward_teacher_forcing_equals_repeated_steps(
    decoder: VectorDecoder, annotations: Tensor, words: Tensor
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
def test_step_maps_are_even_and_sum_to_one(decoder: VectorDecoder, annotations: Tensor) -> None:
    output = decoder.step(torch.tensor([1, 2, 3]), decoder.init_state(annotations))
    torch.testing.assert_close(output.alpha, torch.full((B, L), 1 / L))


@torch.no_grad()
def test_select_rows_in_another_order_gives_their_outputs_in_that_order(
    decoder: VectorDecoder, annotations: Tensor, words: Tensor
) -> None:
    state = decoder.step(words[:, 0], _grouped(decoder, annotations)).state
    order = torch.tensor([1, 0, 3, 3, 4, 5])
    straight = decoder.step(words[:, 1], state)
    selected = decoder.step(words[order, 1], state.select(order))
    torch.testing.assert_close(selected.logits, straight.logits[order])


@torch.no_grad()
def test_init_state_only_the_mean_of_the_annotations_matters(
    decoder: VectorDecoder, annotations: Tensor
) -> None:
    shuffled = annotations[:, torch.randperm(L)]
    one = decoder.step(torch.tensor([1, 2, 3]), decoder.init_state(annotations))
    other = decoder.step(torch.tensor([1, 2, 3]), decoder.init_state(shuffled))
    torch.testing.assert_close(one.logits, other.logits)


@torch.no_grad()
def test_decode_batch_equals_single(decoder: VectorDecoder, annotations: Tensor) -> None:
    options = DecodingOptions(beam_size=3, max_length=6)
    steps = TorchSteps(decoder)
    batch = decode(steps, ImageFeatures(annotations), options)
    for image in range(B):
        alone = ImageFeatures(annotations[image : image + 1])
        single = decode(steps, alone, options)[0]
        assert single.captions[0].token_ids == batch[image].captions[0].token_ids


def test_forward_gradients_reach_every_parameter(
    decoder: VectorDecoder, annotations: Tensor, words: Tensor
) -> None:
    decoder.logits(decoder(words, _grouped(decoder, annotations)).readout).logsumexp(
        dim=-1
    ).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


def test_blank_state_gradients_reach_the_language_and_not_the_eyes(
    decoder: VectorDecoder, words: Tensor
) -> None:
    decoder.logits(decoder(words, decoder.blank_state(B * G)).readout).sum().backward()
    touched = {
        name.split(".")[0]
        for name, parameter in decoder.named_parameters()
        if parameter.grad is not None
    }
    assert touched.isdisjoint({"normalise", "picture", "lstm_picture"})
    assert {"embedding", "lstm_word", "lstm_hidden", "output"} <= touched
