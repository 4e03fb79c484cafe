"""The reward of self-critical training, and its gradient."""

import pytest
import torch

from models.tokenizer import Vocabulary
from training.data.datasets import CaptionedImage
from training.data.examples import make_examples
from training.losses import reinforce_loss
from training.rewards import CaptionReward, advantages

IMAGES = [
    CaptionedImage("a", None, ("a dog runs on the grass", "a brown dog runs")),
    CaptionedImage("b", None, ("a red bus on a street", "a bus stands on the street")),
    CaptionedImage("c", None, ("two people sit on a bench", "people on a bench")),
]
VOCABULARY = Vocabulary.build([text for image in IMAGES for text in image.captions], 1)
EXAMPLES = make_examples(IMAGES, VOCABULARY, 1.0, 20)


def ids(*texts: str, end: bool = True) -> torch.Tensor:
    rows = [[*VOCABULARY.encode(text), *([VOCABULARY.eos_id] if end else [])] for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([[row + [VOCABULARY.pad_id] * (longest - len(row)) for row in rows]])


def test_caption_reward_is_higher_for_the_images_own_caption_than_for_anothers() -> None:
    own, other = CaptionReward(EXAMPLES, VOCABULARY)(
        [0], ids("a brown dog runs", "a red bus on a street")
    )[0]
    assert own > other >= 0.0


def test_caption_reward_counts_the_end_as_a_word() -> None:
    reward = CaptionReward(EXAMPLES, VOCABULARY)
    ended = reward([2], ids("people on a bench"))
    broken_off = reward([2], ids("people on a bench", end=False))
    assert ended.item() > broken_off.item()


def test_advantages_compare_each_sample_with_the_mean_of_the_others() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0]])
    assert advantages(rewards).tolist() == [[1.0 - 4.0, 2.0 - 3.5, 6.0 - 1.5]]
    assert advantages(torch.tensor([[2.0]])).tolist() == [[2.0]]  # no other: no baseline


def test_reinforce_loss_mean_gradient_equals_the_analytic_one_with_and_without_baseline() -> None:
    """A bandit with three arms: the gradient of the expected reward is known."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.3, -0.2, 0.5], requires_grad=True)
    reward_of = torch.tensor([1.0, 0.2, 3.0])
    (analytic,) = torch.autograd.grad((logits.softmax(0) * reward_of).sum(), logits)

    count = 20_000
    group = 4
    arms = torch.multinomial(
        logits.detach().softmax(0), count * group, replacement=True, generator=generator
    )
    rewards = reward_of[arms].view(count, group)
    for advantage in (rewards, advantages(rewards)):
        loss = reinforce_loss(logits.log_softmax(0)[arms], advantage.flatten()) / (count * group)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert (-gradient).tolist() == pytest.approx(analytic.tolist(), abs=0.01)


def test_reinforce_loss_baseline_lowers_the_variance() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.tensor([0.3, -0.2, 0.5])
    reward_of = torch.tensor([5.0, 5.2, 5.8])
    arms = torch.multinomial(logits.softmax(0), 4_000, replacement=True, generator=generator)
    rewards = reward_of[arms].view(-1, 4)
    score = (torch.eye(3)[arms] - logits.softmax(0))[:, 0]  # gradient of log p by the first logit
    plain = (score * rewards.flatten()).var()
    assert (score * advantages(rewards).flatten()).var() < 0.2 * plain
