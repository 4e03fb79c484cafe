"""What a step minimizes: the terms of a batch, against the same sums written out plainly."""

from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType

import pytest
import torch
from torch import Tensor

from models.decoders.base import CaptionDecoder, DecoderOutput
from models.decoders.tag_attention import Copies
from models.features import ImageFeatures, Tags
from models.tokenizer import Vocabulary
from tests.unit.toys import WORDS, tiny_config
from training.data.batching import AttentionTargets
from training.losses import MovingBaseline
from training.objective import Objective, Terms

B, G, L, D = 2, 2, 5, 7
PAD, BOS, EOS, UNK = 0, 1, 2, 3


def make_decoder(attention: str = "additive", seed: int = 0) -> CaptionDecoder:
    torch.manual_seed(seed)
    config = tiny_config(attention=attention, dropout=0.0)
    return config.decoder.build(config.vocab_size, D)


def terms(
    decoder: CaptionDecoder,
    ids: Tensor,
    annotations: Tensor | None,
    baseline: MovingBaseline | None = None,
    teachers: Sequence[CaptionDecoder] = (),
    options: Mapping[str, float] = MappingProxyType({}),
    advantage: Tensor | None = None,
    attention_targets: AttentionTargets | None = None,
    whole: Tensor | None = None,
) -> Terms:
    objective = Objective(
        vocabulary=Vocabulary(WORDS),
        baseline=baseline or MovingBaseline(),
        teachers=teachers,
        reward_weight=0.5,
        entropy_weight=0.25,
        **options,
    )
    return objective(
        decoder,
        None if annotations is None else ImageFeatures(annotations),
        ids,
        advantage=advantage,
        attention_targets=attention_targets,
        whole=None if whole is None else ImageFeatures(whole),
    )


@pytest.fixture
def annotations() -> Tensor:
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ids() -> Tensor:
    return torch.tensor(
        [
            [BOS, 4, 5, EOS, PAD],
            [BOS, 6, UNK, 7, EOS],
            [BOS, 8, EOS, PAD, PAD],
            [BOS, PAD, PAD, PAD, PAD],
        ]
    )


def test_objective_loss_is_the_cross_entropy_of_known_words_alone(
    annotations: Tensor, ids: Tensor
) -> None:
    decoder = make_decoder()
    found = terms(decoder, ids, annotations)

    expected = 0.0
    words = 0
    for row in range(len(ids)):
        state = decoder.init_state(annotations[row // G].unsqueeze(0))
        for time in range(ids.shape[1] - 1):
            output = decoder.step(ids[row, time : time + 1], state)
            state = output.state
            target = int(ids[row, time + 1])
            if target not in (PAD, UNK):
                expected -= output.logits[0].log_softmax(dim=0)[target].item()
                words += 1
    assert found.words == words == 8
    assert found.loss.item() == pytest.approx(expected, rel=1e-5)


def test_objective_without_an_image_has_no_penalty(ids: Tensor) -> None:
    found = terms(make_decoder(), ids, None)
    assert found.penalty.item() == 0.0
    assert found.loss.item() > 0


def test_objective_maps_with_targets_are_compared_by_their_place_in_row_and_time(
    annotations: Tensor, ids: Tensor
) -> None:
    decoder = make_decoder()
    steps = ids.shape[1] - 1
    shares = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5]])
    found = terms(
        decoder,
        ids,
        annotations,
        attention_targets=AttentionTargets(torch.tensor([1, 2 * steps]), shares),
    )

    rows = torch.arange(B).repeat_interleave(G)
    alphas = decoder(ids[:, :-1], decoder.init_state(annotations).select(rows)).alphas
    expected = -alphas[0, 1, 1].log() - 0.5 * (alphas[2, 0, 0].log() + alphas[2, 0, 4].log())
    assert found.attention_words == 2
    torch.testing.assert_close(found.attention, expected)


def test_objective_advantage_turns_captions_into_samples(annotations: Tensor, ids: Tensor) -> None:
    """Doubling every advantage doubles the gradient; none at all leaves none."""
    decoder = make_decoder()
    gradients = []
    for scale in (0.0, 1.0, 2.0):
        decoder.zero_grad()
        terms(
            decoder, ids, annotations, advantage=scale * torch.tensor([1.0, -1.0, 0.5, 0.0])
        ).loss.backward()
        assert decoder.output.weight.grad is not None
        gradients.append(decoder.output.weight.grad.clone())
    assert gradients[0].count_nonzero() == 0
    assert gradients[1].count_nonzero() > 0
    torch.testing.assert_close(gradients[2], 2 * gradients[1])


def test_objective_hard_attention_adds_the_reinforce_terms_of_its_draws(
    annotations: Tensor, ids: Tensor
) -> None:
    decoder = make_decoder("hard").train()
    baseline = MovingBaseline(-3.0)
    torch.manual_seed(5)
    found = terms(decoder, ids, annotations, baseline)
    torch.manual_seed(5)  # the same draws again
    rows = torch.arange(B).repeat_interleave(G)
    output = decoder(ids[:, :-1], decoder.init_state(annotations).select(rows))

    logprobs = decoder.logits(output.readout).log_softmax(dim=-1)
    loss = 0.0
    rewards = []
    for row in range(len(ids)):
        there = [t for t in range(ids.shape[1] - 1) if int(ids[row, t + 1]) != PAD]
        words = [
            logprobs[row, t, ids[row, t + 1]].item() for t in there if int(ids[row, t + 1]) != UNK
        ]
        drawn = [output.logprobs[row, t].item() for t in there]
        loss -= sum(words) + 0.5 * (sum(words) + 3.0) * sum(drawn)
        loss -= 0.25 * sum(output.entropies[row, t].item() for t in there)
        rewards += [sum(words)] if any(drawn) else []
    assert found.loss.item() == pytest.approx(loss, rel=1e-4)
    assert 0 < len(rewards) < 3  # one image is drawn from, the other takes the expectation
    assert found.rewarded == len(rewards)
    assert found.reward == pytest.approx(sum(rewards), rel=1e-5)
    assert baseline.value == -3.0  # moved by the trainer, once for all processes


@pytest.mark.parametrize("caption", [[4, 5, 6], [4, UNK, 6], [UNK, 5, 6]])
def test_objective_hard_attention_gradient_has_the_exact_one_over_all_draws_as_its_mean(
    caption: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two places, four words: sixteen ways to look. Half of the images take the expectation
    instead."""
    ids = torch.tensor([[BOS, *caption, EOS]])
    image = 3 * torch.randn(1, 2, D, generator=torch.Generator().manual_seed(3))
    decoder = make_decoder("hard").train()
    weight = decoder.get_parameter("attention.query.weight")
    exact = 0.5 * _gradient(decoder, ids, image, None, weight, monkeypatch)
    for path in product((0, 1), repeat=4):
        exact += 0.5 * _gradient(decoder, ids, image, path, weight, monkeypatch)

    spread = {}
    for name, baseline in (("none", 0.0), ("near", -9.0)):
        means = []
        for seed in range(30):
            torch.manual_seed(seed)
            decoder.zero_grad()
            many = terms(
                decoder, ids.expand(6000, -1), image.expand(6000, -1, -1), MovingBaseline(baseline)
            )
            (many.loss / 6000).backward()
            assert weight.grad is not None
            means.append(weight.grad.clone())
        stacked = torch.stack(means)
        error = stacked.std(dim=0) / len(means) ** 0.5
        assert ((stacked.mean(dim=0) - exact).norm() / error.norm()).item() < 2.0, name
        assert (error.norm() / exact.norm()).item() < 0.2  # so the line above could fail
        spread[name] = error.norm().item()
    assert spread["near"] < 0.8 * spread["none"]


def _gradient(
    decoder: CaptionDecoder,
    ids: Tensor,
    image: Tensor,
    path: tuple[int, ...] | None,
    weight: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> Tensor:
    """The exact estimate's share of one way to look (its probability times its gradient), or of the
    expectation."""
    places = iter(path or ())
    with monkeypatch.context() as patch:
        patch.setattr(
            torch, "rand", lambda shape, **_: torch.full(shape, 0.0 if path is None else 1.0)
        )
        if path is not None:
            patch.setattr(torch, "multinomial", lambda p, _: torch.full((len(p), 1), next(places)))
        output = decoder(ids[:, :-1], decoder.init_state(image))
    known = ids[0, 1:] != UNK
    logprobs = decoder.logits(output.readout)[0].log_softmax(dim=-1)[torch.arange(4), ids[0, 1:]]
    words = logprobs[known].sum()
    value = words + 0.25 * output.entropies.sum()
    share = torch.ones(())
    if path is not None:
        value = value + 0.5 * words.detach() * output.logprobs.sum()
        share = output.logprobs.sum().exp().detach()
    (gradient,) = torch.autograd.grad(-value, weight)
    return share * gradient


def test_objective_soft_attention_has_nothing_to_reward(annotations: Tensor, ids: Tensor) -> None:
    assert terms(make_decoder(), ids, annotations).rewarded == 0


@pytest.mark.parametrize("hides", [False, True], ids=["all see the same", "teachers see more"])
def test_objective_distils_the_mean_of_what_the_teachers_say_beside_the_words_of_people(
    hides: bool, annotations: Tensor, ids: Tensor
) -> None:
    decoder = make_decoder()
    teachers = [make_decoder(seed=1), make_decoder("dot-product", seed=2)]
    whole = annotations if hides else None
    seen = annotations.clone()
    if hides:
        seen[1, :, : D // 2] = 0.0
    options = {"distil_weight": 0.25}
    found = terms(decoder, ids, seen, teachers=teachers, options=options, whole=whole)

    people = 0.0
    from_teachers = 0.0
    for row in range(len(ids)):
        states = [
            each.init_state((seen if each is decoder else annotations)[row // G].unsqueeze(0))
            for each in (decoder, *teachers)
        ]
        for time in range(ids.shape[1] - 1):
            outputs = [
                each.step(ids[row, time : time + 1], state)
                for each, state in zip((decoder, *teachers), states, strict=True)
            ]
            states = [output.state for output in outputs]
            own, first, second = (output.logits[0] for output in outputs)
            if int(ids[row, time + 1]) not in (PAD, UNK):
                people -= own.log_softmax(dim=0)[ids[row, time + 1]].item()
                mean = (first.softmax(dim=0) + second.softmax(dim=0)) / 2
                from_teachers -= (mean * own.log_softmax(dim=0)).sum().item()
    assert found.loss.item() == pytest.approx(0.75 * people + 0.25 * from_teachers, rel=1e-5)
    found.loss.backward()
    assert all(parameter.grad is None for teacher in teachers for parameter in teacher.parameters())
    assert decoder.output.weight.grad is not None


def test_objective_scheduled_sampling_feeds_the_decoder_its_own_words(
    annotations: Tensor, ids: Tensor
) -> None:
    """A decoder that always says one word, and is fed its own words alone, is scored after that
    word."""
    decoder = make_decoder()
    said = 9
    with torch.no_grad():
        decoder.output.bias[said] = 30.0

    found = terms(decoder, ids, annotations, options={"scheduled_sampling": 1.0})

    inputs = torch.where((ids == PAD) | (ids == BOS), ids, said)[:, :-1]
    rows = torch.arange(B).repeat_interleave(G)
    logits = decoder.logits(decoder(inputs, decoder.init_state(annotations).select(rows)).readout)
    known = (ids[:, 1:] != PAD) & (ids[:, 1:] != UNK)
    expected = torch.nn.functional.cross_entropy(logits[known], ids[:, 1:][known], reduction="sum")
    torch.testing.assert_close(found.loss, expected)
    assert not torch.allclose(found.loss, terms(decoder, ids, annotations).loss, rtol=1e-7)


class Successor(CaptionDecoder):
    """Says the word whose number follows that of its input, and keeps its inputs."""

    def __init__(self) -> None:
        super().__init__(vocab_size=len(WORDS) + 4, encoder_dim=D, embed_dim=4, dropout=0.0)
        self.inputs: list[Tensor] = []

    def blank_state(self, _rows: int, _tags: Tags | None = None) -> None:
        return None

    def forward(self, token_ids: Tensor, _state: None) -> DecoderOutput:
        self.inputs.append(token_ids)
        said = torch.nn.functional.one_hot(
            (token_ids + 1).clamp(max=len(WORDS) + 3), len(WORDS) + 4
        ).float()
        return DecoderOutput(said, torch.empty(0), torch.empty(0))

    def logits(self, readout: Tensor, _copies: Copies | None = None) -> Tensor:
        return 1e4 * readout


def test_objective_scheduled_sampling_replaces_its_share_by_what_follows_the_true_words() -> None:
    decoder = Successor()
    ids = torch.randint(4, len(WORDS) + 3, (400, 7), generator=torch.Generator().manual_seed(2))
    ids[:, 0] = BOS
    torch.manual_seed(0)

    terms(decoder, ids, None, options={"scheduled_sampling": 0.25})

    true, inputs = decoder.inputs
    changed = inputs != true
    assert torch.equal(true, ids[:, :-1])
    assert not changed[:, :1].any()
    assert torch.equal(inputs[:, 2:][changed[:, 2:]], (true[:, 1:-1] + 1)[changed[:, 2:]])
    assert 0.15 < changed[:, 2:].float().mean() < 0.3  # some say the word that stood there
