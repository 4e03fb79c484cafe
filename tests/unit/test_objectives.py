"""What a step minimises: the terms of a batch, against the same sums written out plainly."""

import pytest
import torch
from torch import Tensor

from models.captioning import build_decoder
from models.decoder import CaptionDecoder
from models.tokenizer import Vocabulary
from tests.unit.toys import WORDS, tiny_config
from training.config import StageConfig
from training.corpus import Taught
from training.losses import MovingBaseline
from training.objectives import Objective, Terms

B, G, L, D = 2, 2, 5, 7
PAD, BOS, EOS, UNK = 0, 1, 2, 3


def decoder(attention: str = "additive") -> CaptionDecoder:
    torch.manual_seed(0)
    return build_decoder(tiny_config(attention=attention, dropout=0.0), D)


def terms(
    writer: CaptionDecoder,
    ids: Tensor,
    annotations: Tensor | None,
    baseline: MovingBaseline | None = None,
    **extra: Tensor | Taught,
) -> Terms:
    stage = StageConfig(kind="frozen", epochs=1, label_smoothing=0.0, reward_weight=0.5, entropy_weight=0.25)
    return Objective(stage, Vocabulary(WORDS), baseline or MovingBaseline())(writer, annotations, ids, **extra)


@pytest.fixture
def annotations() -> Tensor:
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ids() -> Tensor:
    return torch.tensor(
        [[BOS, 4, 5, EOS, PAD], [BOS, 6, UNK, 7, EOS], [BOS, 8, EOS, PAD, PAD], [BOS, PAD, PAD, PAD, PAD]]
    )


def test_objective_loss_is_the_cross_entropy_of_known_words_alone(annotations: Tensor, ids: Tensor) -> None:
    writer = decoder()
    found = terms(writer, ids, annotations)

    expected, words = 0.0, 0
    for row in range(len(ids)):
        state = writer.init_state(annotations[row // G].unsqueeze(0))
        for time in range(ids.shape[1] - 1):
            output = writer.step(ids[row, time : time + 1], state)
            state, target = output.state, int(ids[row, time + 1])
            if target not in (PAD, UNK):
                expected -= output.logits[0].log_softmax(dim=0)[target].item()
                words += 1
    assert found.words == words == 8
    assert found.loss.item() == pytest.approx(expected, rel=1e-5)


def test_objective_without_a_picture_has_no_penalty(ids: Tensor) -> None:
    found = terms(decoder(), ids, None)
    assert found.penalty.item() == 0.0
    assert found.loss.item() > 0


def test_objective_taught_words_are_compared_by_their_place_in_row_and_time(annotations: Tensor, ids: Tensor) -> None:
    writer, steps = decoder(), ids.shape[1] - 1
    shares = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5]])
    found = terms(writer, ids, annotations, taught=Taught(torch.tensor([1, 2 * steps]), shares))

    rows = torch.arange(B).repeat_interleave(G)
    alphas = writer(ids[:, :-1], writer.init_state(annotations).select(rows)).alphas
    expected = -alphas[0, 1, 1].log() - 0.5 * (alphas[2, 0, 0].log() + alphas[2, 0, 4].log())
    assert found.taught_words == 2
    torch.testing.assert_close(found.taught, expected)


def test_objective_advantage_turns_captions_into_samples(annotations: Tensor, ids: Tensor) -> None:
    """Doubling every advantage doubles the gradient; none at all leaves none."""
    writer = decoder()
    gradients = []
    for scale in (0.0, 1.0, 2.0):
        writer.zero_grad()
        terms(writer, ids, annotations, advantage=scale * torch.tensor([1.0, -1.0, 0.5, 0.0])).loss.backward()
        assert writer.output.weight.grad is not None
        gradients.append(writer.output.weight.grad.clone())
    assert gradients[0].count_nonzero() == 0
    assert gradients[1].count_nonzero() > 0
    torch.testing.assert_close(gradients[2], 2 * gradients[1])


def test_objective_hard_attention_adds_the_reinforce_terms_of_its_draws(annotations: Tensor, ids: Tensor) -> None:
    writer = decoder("hard").train()
    baseline = MovingBaseline(-3.0)
    torch.manual_seed(5)
    found = terms(writer, ids, annotations, baseline)
    torch.manual_seed(5)  # the same draws again
    rows = torch.arange(B).repeat_interleave(G)
    output = writer(ids[:, :-1], writer.init_state(annotations).select(rows))

    logprobs, loss = writer.logits(output.readout).log_softmax(dim=-1), 0.0
    rewards = []
    for row in range(len(ids)):
        known = [t for t in range(ids.shape[1] - 1) if int(ids[row, t + 1]) not in (PAD, UNK)]
        reward = sum(logprobs[row, t, ids[row, t + 1]].item() for t in known)
        for t in known:
            drawn, entropy = output.logprobs[row, t].item(), output.entropies[row, t].item()
            loss -= logprobs[row, t, ids[row, t + 1]].item() + 0.5 * (reward + 3.0) * drawn + 0.25 * entropy
        rewards += [reward] if known else []
    assert found.loss.item() == pytest.approx(loss, rel=1e-4)
    assert found.rewarded == len(rewards) == 3
    assert found.reward == pytest.approx(sum(rewards), rel=1e-5)
    assert baseline.value == -3.0  # moved by the trainer, once for all processes


def test_objective_soft_attention_has_nothing_to_reward(annotations: Tensor, ids: Tensor) -> None:
    assert terms(decoder(), ids, annotations).rewarded == 0
