"""Attention over tags, and the decoder that has it: invariances, copies, and none at all."""

import pytest
import torch
from torch import Tensor

from models.array_features import TAG_CLASSES, WORDS_A_CLASS
from models.decoders.config import AttentionConfig
from models.decoders.show_attend_tell import AttentionDecoder, AttentionState
from models.decoders.tag_attention import Copies, add_copies
from models.errors import ConfigError
from models.features import Tags
from models.network import build_model
from tests.unit.test_features import random_tags
from tests.unit.toys import tiny_config

B, G, L, D, E, N, A, V, T, W = 3, 2, 9, 7, 4, 6, 3, 11, 4, 3
CONFIG = AttentionConfig(embed_dim=E, decoder_dim=N, attention_dim=A, tags=True)


@pytest.fixture
def decoder() -> AttentionDecoder:
    torch.manual_seed(0)
    decoder = AttentionDecoder(CONFIG, V, D).eval()
    assert decoder.tags is not None
    ids = torch.randint(4, V, (TAG_CLASSES, WORDS_A_CLASS))
    ids[:, 2:] = 0  # two words a class
    decoder.tags.set_words(ids.tolist())
    for parameter in decoder.parameters():  # opinionated, and no context that adds nothing
        torch.nn.init.normal_(parameter, std=0.7)
    return decoder


@pytest.fixture
def annotations() -> Tensor:
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tags() -> Tags:
    return random_tags(B, W, L)


@pytest.fixture
def words() -> Tensor:
    return torch.randint(V, (B * G, T), generator=torch.Generator().manual_seed(2))


def grouped(decoder: AttentionDecoder, annotations: Tensor, tags: Tags | None) -> AttentionState:
    """The first state, of G rows for each image."""
    rows = torch.arange(B).repeat_interleave(G)
    return decoder.init_state(annotations, tags).select(rows)


def absent(tags: Tags) -> Tags:
    """The same tags, none of which is there."""
    values = tags.values.clone()
    values[..., 1] = 0.0
    return Tags(values)


@torch.no_grad()
def test_decoder_without_a_tag_present_is_exactly_the_one_without_tags(
    decoder: AttentionDecoder, annotations: Tensor, tags: Tags, words: Tensor
) -> None:
    plain = AttentionDecoder(CONFIG.model_copy(update={"tags": False}), V, D).eval()
    shared = {name: tensor for name, tensor in decoder.state_dict().items() if "tags" not in name}
    plain.load_state_dict(shared)
    expected = plain(words, grouped(plain, annotations, None))

    for none in (absent(tags), Tags(tags.values[:, :0]), None):
        output = decoder(words, grouped(decoder, annotations, none))
        logits = decoder.logits(output.readout, output.copies)
        assert torch.equal(logits, plain.logits(expected.readout))
        assert torch.equal(output.alphas, expected.alphas)
        assert torch.equal(output.betas, expected.betas)


@torch.no_grad()
def test_steps_one_by_one_equal_teacher_forcing_and_maps_sum_to_1(
    decoder: AttentionDecoder, annotations: Tensor, tags: Tags, words: Tensor
) -> None:
    state = grouped(decoder, annotations, tags)

    whole = decoder(words, state)

    logits = decoder.logits(whole.readout, whole.copies)
    for time in range(T):
        output = decoder.step(words[:, time], state)
        state = output.state
        torch.testing.assert_close(output.logits, logits[:, time])
        torch.testing.assert_close(output.alpha, whole.alphas[:, time])
        torch.testing.assert_close(output.alpha.sum(dim=1), torch.ones(B * G))
        assert output.tag_shares is not None
        assert output.tag_shares.shape == (B * G, W)
        assert (output.tag_shares.sum(dim=1) < 1).all()
        assert (output.tag_shares > 0).all()


@torch.no_grad()
def test_map_is_what_was_looked_at_among_cells_and_tags(
    decoder: AttentionDecoder, annotations: Tensor, tags: Tags
) -> None:
    state = decoder.init_state(annotations, tags)
    token_ids = torch.tensor([1, 5, 9])

    output = decoder.step(token_ids, state)

    cells = decoder.step(token_ids, decoder.init_state(annotations)).alpha
    shares = output.tag_shares
    assert shares is not None
    none = 1 - shares.sum(dim=1, keepdim=True)
    expected = none * cells + torch.einsum("bw,bwl->bl", shares, tags.places)
    torch.testing.assert_close(output.alpha, expected)


@torch.no_grad()
def test_order_of_the_tags_changes_nothing_but_the_order_of_their_shares(
    decoder: AttentionDecoder, annotations: Tensor, tags: Tags
) -> None:
    token_ids = torch.tensor([1, 5, 9])
    one = decoder.step(token_ids, decoder.init_state(annotations, tags))
    turned = Tags(tags.values.flip(1))

    other = decoder.step(token_ids, decoder.init_state(annotations, turned))

    assert one.tag_shares is not None
    assert other.tag_shares is not None
    torch.testing.assert_close(other.logits, one.logits)
    torch.testing.assert_close(other.alpha, one.alpha)
    torch.testing.assert_close(other.tag_shares, one.tag_shares.flip(1))


@torch.no_grad()
def test_image_is_read_alike_alone_and_in_a_batch(
    decoder: AttentionDecoder, annotations: Tensor, tags: Tags, words: Tensor
) -> None:
    batch = decoder(words, grouped(decoder, annotations, tags))
    for image in range(B):
        rows = slice(image * G, (image + 1) * G)
        state = decoder.init_state(annotations[image].unsqueeze(0), Tags(tags.values[image][None]))
        alone = decoder(words[rows], state.select(torch.zeros(G, dtype=torch.long)))
        torch.testing.assert_close(alone.readout, batch.readout[rows])
        torch.testing.assert_close(alone.alphas, batch.alphas[rows])
        assert alone.copies is not None
        assert batch.copies is not None
        torch.testing.assert_close(alone.copies.gains, batch.copies.gains[rows])


@torch.no_grad()
def test_rows_reordered_within_their_images_keep_the_tags_of_their_images(
    decoder: AttentionDecoder, annotations: Tensor, tags: Tags, words: Tensor
) -> None:
    """As a beam search reorders them: two rows change places, one is taken twice."""
    order = torch.tensor([1, 0, 2, 2, 5, 4])
    state = grouped(decoder, annotations, tags)
    before = decoder.step(words[:, 0], state).state
    straight = decoder.step(words[:, 1], before)

    reordered = decoder.step(words[:, 1][order], before.select(order))

    assert straight.tag_shares is not None
    assert reordered.tag_shares is not None
    for one, other in zip(
        (straight.logits, straight.alpha, straight.tag_shares),
        (reordered.logits, reordered.alpha, reordered.tag_shares),
        strict=True,
    ):
        torch.testing.assert_close(other, one[order])
        assert (one[0] - one[1]).abs().max() > 1e-3  # the rows of an image do differ


def test_copied_word_gains_and_no_other() -> None:
    logits = torch.zeros(2, V)
    copies = Copies(torch.tensor([[4, 5, 0], [6, 6, 0]]), torch.tensor([[1.0, 2, 0], [0.5, 1, 0]]))

    added = add_copies(logits, copies)

    expected = torch.zeros(2, V)
    expected[0, 4], expected[0, 5], expected[1, 6] = 1.0, 2.0, 1.5
    assert torch.equal(added, expected)


@torch.no_grad()
def test_words_of_what_is_looked_at_gain_by_its_share(
    decoder: AttentionDecoder, annotations: Tensor, tags: Tags
) -> None:
    assert decoder.tags is not None
    decoder.tags.gain.zero_()
    token_ids = torch.tensor([1, 5, 9])
    state = decoder.init_state(annotations, tags)
    before = decoder.step(token_ids, state)
    number = int(tags.classes[1, 2])
    decoder.tags.gain[number] = 3.0

    after = decoder.step(token_ids, decoder.init_state(annotations, tags))

    shares = before.tag_shares
    assert shares is not None
    expected = before.logits.clone()
    for word in decoder.tags.class_words[number, :2].tolist():
        expected[1, word] += 3.0 * shares[1, 2]
    torch.testing.assert_close(after.logits, expected)


def test_gradient_reaches_every_weight_of_the_tags_but_not_the_gains_of_absent_classes(
    decoder: AttentionDecoder, annotations: Tensor, tags: Tags, words: Tensor
) -> None:
    output = decoder(words, grouped(decoder, annotations, tags))
    decoder.logits(output.readout, output.copies).square().sum().backward()

    assert decoder.tags is not None
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    reached = decoder.tags.gain.grad
    assert reached is not None
    found = sorted(set(reached.any(dim=1).nonzero().flatten().tolist()))
    assert found == sorted(set(tags.classes.flatten().tolist()))


def test_tags_without_an_image_are_told_of_and_reach_all_but_what_sees(
    decoder: AttentionDecoder, words: Tensor
) -> None:
    told = random_tags(B * G, W, 1)
    output = decoder(words, decoder.blank_state(B * G, told))
    logits = decoder.logits(output.readout, output.copies)

    silent = decoder(words, decoder.blank_state(B * G))
    assert not torch.allclose(logits, decoder.logits(silent.readout))
    none = decoder(words, decoder.blank_state(B * G, absent(told)))
    assert torch.equal(decoder.logits(none.readout, none.copies), decoder.logits(silent.readout))
    logits.logsumexp(dim=-1).sum().backward()
    assert decoder.lstm_tags.weight.grad is not None
    assert decoder.lstm_context.weight.grad is None or not decoder.lstm_context.weight.grad.any()
    assert decoder.tags is not None
    assert decoder.tags.query.weight.grad is not None
    assert decoder.tags.seen.weight.grad is None


@torch.no_grad()
def test_fresh_decoder_hears_of_tags_by_copies_and_maps_alone() -> None:
    """So that a decoder which knew no tags goes on as it was, and learns to use them."""
    torch.manual_seed(0)
    decoder = AttentionDecoder(CONFIG, V, D).eval()
    annotations = torch.randn(B, L, D)

    output = decoder.step(
        torch.tensor([1, 5, 9]), decoder.init_state(annotations, random_tags(B, W, L))
    )

    plain = decoder.step(torch.tensor([1, 5, 9]), decoder.init_state(annotations))
    torch.testing.assert_close(output.logits, plain.logits)  # no words are told yet
    assert output.tag_shares is not None
    assert (output.tag_shares.sum(dim=1) < 0.5).all()


def test_decoder_that_attends_to_tags_is_not_built_without_a_tagger() -> None:
    config = tiny_config()
    blind = config.model_copy(update={"decoder": CONFIG})
    with pytest.raises(ConfigError, match="no tagger"):
        build_model(blind)
