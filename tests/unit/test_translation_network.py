"""Networks that translate: teacher forcing equals steps, padding changes nothing, maps sum to 1."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.errors import ConfigError
from models.translation.config import TransformerArchitecture
from models.translation.encoders import RecurrentEncoder
from models.translation.network import build_translation_model, pad_sentences
from models.translation.vector_decoder import SentenceVectorDecoder
from tests.unit.toy_translators import ARCHITECTURES, SIZE, toy_config, toy_network

KINDS = tuple(ARCHITECTURES)
B, T = 3, 6


@pytest.fixture
def sentences() -> list[list[int]]:
    return [[5, 9, 11, 30, 2], [7, 2], [12, 13, 14, 15, 16, 17, 2]]


@pytest.fixture
def words() -> Tensor:
    return torch.randint(4, SIZE, (B, T), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_teacher_forcing_equals_repeated_steps(
    kind: str, sentences: list[list[int]], words: Tensor
) -> None:
    model = toy_network(kind)
    state = model.init_state(model.encode(pad_sentences(sentences)))
    forced = model(pad_sentences(sentences), words)
    logits = model.decoder.logits(forced.readout)
    for time in range(T):
        output = model.decoder.step(words[:, time], state)
        state = output.state
        torch.testing.assert_close(output.logits, logits[:, time], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(output.alpha, forced.alphas[:, time], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_batch_gives_what_single_sentences_give(
    kind: str, sentences: list[list[int]], words: Tensor
) -> None:
    model = toy_network(kind)
    together = model(pad_sentences(sentences), words)
    for row, sentence in enumerate(sentences):
        alone = model(pad_sentences([sentence]), words[row : row + 1])
        torch.testing.assert_close(together.readout[row], alone.readout[0], atol=1e-4, rtol=1e-4)
        alpha = together.alphas[row]
        torch.testing.assert_close(alpha[:, : len(sentence)], alone.alphas[0], atol=1e-4, rtol=1e-4)
        assert not alpha[:, len(sentence) :].any()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_alphas_sum_to_one(kind: str, sentences: list[list[int]], words: Tensor) -> None:
    alphas = toy_network(kind)(pad_sentences(sentences), words).alphas
    torch.testing.assert_close(alphas.sum(dim=-1), torch.ones(B, T))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_state_follows_rows_and_sentences(
    kind: str, sentences: list[list[int]], words: Tensor
) -> None:
    """Two rows a sentence, then the last sentence alone, its rows exchanged."""
    model = toy_network(kind)
    first = words[:, 0].repeat_interleave(2)
    first[5] = 9
    begun = model.init_state(model.encode(pad_sentences(sentences)))
    begun = begun.select(torch.tensor([0, 0, 1, 1, 2, 2]))
    state: Any = model.decoder.step(first, begun).state
    kept: Any = state.select(torch.tensor([5, 4]), torch.tensor([2]))
    whole = model.decoder.step(words[:, 1].repeat_interleave(2), state)
    part = model.decoder.step(words[2, 1].repeat(2), kept)
    torch.testing.assert_close(part.logits, whole.logits[[5, 4]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(part.alpha, whole.alpha[[5, 4]], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_vector_decoder_begins_where_the_encoder_ended(sentences: list[list[int]]) -> None:
    model = toy_network("seq2seq")
    source = model.encode(pad_sentences(sentences))
    assert source.last is not None
    assert isinstance(model.decoder, SentenceVectorDecoder)
    state = model.decoder.begin(source)
    ends = torch.tensor([len(sentence) - 1 for sentence in sentences])
    torch.testing.assert_close(state.hidden, source.annotations[torch.arange(B), ends])
    assert torch.equal(state.cell, source.last[1])


@torch.no_grad()
def test_bidirectional_encoder_sees_what_follows() -> None:
    model = toy_network("additive")
    assert isinstance(model.encoder, RecurrentEncoder)
    one = model.encode(torch.tensor([[5, 6, 7, 2]])).annotations
    other = model.encode(torch.tensor([[5, 6, 9, 2]])).annotations
    half = one.shape[2] // 2
    assert torch.equal(one[:, 0, :half], other[:, 0, :half])
    assert not torch.allclose(one[:, 0, half:], other[:, 0, half:])


def test_joint_and_tied_vocabularies_are_one_tensor() -> None:
    model = build_translation_model(toy_config())
    assert model.encoder.embedding.weight is model.decoder.embedding.weight
    assert model.decoder.output.weight is model.decoder.embedding.weight
    apart = build_translation_model(toy_config(joint=False, tied=False, source_vocab_size=60))
    assert apart.encoder.embedding.weight.shape[0] == 60
    assert apart.decoder.output.weight is not apart.decoder.embedding.weight


def test_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple"):
        build_translation_model(
            toy_config(architecture=TransformerArchitecture(embed_dim=18, heads=4))
        )
