"""What matching models minimize: who is nobody's negative, symmetry, and the memory."""

import math

import pytest
import torch

from training.data.masked_words import IGNORED, hide_words, mask_one_word, mask_words
from training.matching.losses import contrastive_loss, masked_word_loss
from training.matching.memory import PairMemory

IDS = torch.arange(3)


def test_contrastive_loss_of_single_pairs_is_symmetrical_cross_entropy() -> None:
    products = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    loss = contrastive_loss(products, IDS, IDS)
    both = (products, products.T)
    expected = sum(torch.nn.functional.cross_entropy(each, IDS) for each in both) / 2
    torch.testing.assert_close(loss, torch.as_tensor(expected))
    torch.testing.assert_close(contrastive_loss(products.T, IDS, IDS), loss)


def test_contrastive_loss_captions_of_one_photo_are_never_negatives_of_each_other() -> None:
    """Two captions of each of two photos: how near a photo is to its other caption is all one."""
    owners = torch.tensor([0, 0, 1, 1])
    products = torch.randn(2, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = contrastive_loss(products, owners, torch.tensor([7, 8]))
    loss.backward()
    assert products.grad is not None
    # a photo's own captions are only ever pulled
    assert (products.grad[0, :2] < 0).all()
    assert (products.grad[1, 2:] < 0).all()
    assert (products.grad[0, 2:] > 0).all()


def test_contrastive_loss_photo_drawn_twice_is_no_negative_of_itself() -> None:
    products = torch.zeros(2, 2)
    assert contrastive_loss(products, torch.tensor([0, 1]), torch.tensor([5, 5])).item() == 0.0
    different = contrastive_loss(products, torch.tensor([0, 1]), torch.tensor([5, 6]))
    assert different.item() == pytest.approx(math.log(2))


def test_contrastive_loss_memorized_negatives_count_and_empty_places_do_not() -> None:
    products = torch.zeros(1, 1)
    none = torch.full((1, 4), -torch.inf)
    one = torch.tensor([[0.0, -torch.inf]])
    place = torch.tensor([0])
    alone = contrastive_loss(products, place, place, pictures_before=none, sentences_before=none)
    assert alone.item() == 0.0
    both = contrastive_loss(products, place, place, pictures_before=one, sentences_before=one)
    assert both.item() == pytest.approx(math.log(2))


def test_memory_gives_the_hardest_of_other_photos_alone() -> None:
    memory = PairMemory(4, 2)
    vectors = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.2, 0.0]])
    memory.add(vectors, vectors, torch.tensor([1, 2, 3]))
    query = torch.tensor([[1.0, 0.0]])
    hardest = memory.hardest_sentences(query, torch.tensor([1]), 3)
    assert hardest is not None
    assert hardest[0].tolist() == pytest.approx([0.9, 0.2, -torch.inf])  # an empty place is last


def test_memory_forgets_the_oldest_and_restores_what_it_gave() -> None:
    memory = PairMemory(2, 1)
    for number in range(3):
        value = torch.full((1, 1), float(number))
        memory.add(value, value, torch.tensor([number]))
    other = PairMemory(2, 1)
    other.restore(memory.tensors())
    assert sorted(other.owners.tolist()) == [1, 2]
    assert torch.equal(other.sentences, memory.sentences)


def test_memory_adds_while_a_gradient_runs_through_what_was_remembered() -> None:
    memory = PairMemory(2, 2)
    query = torch.ones(1, 2, requires_grad=True)
    memory.add(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([0]))
    hardest = memory.hardest_pictures(query, torch.tensor([5]), 1)
    assert hardest is not None
    memory.add(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([1]))
    hardest.sum().backward()
    assert query.grad is not None
    assert query.grad.tolist() == [[1.0, 1.0]]


def test_memory_of_no_size_remembers_nothing() -> None:
    memory = PairMemory(0, 2)
    memory.add(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([0]))
    assert memory.hardest_pictures(torch.ones(1, 2), torch.tensor([1]), 4) is None


# -- masked words ----


def masked(share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.tensor([[1, 5, 6, 7, 8, 2], [1, 3, 9, 2, 0, 0], [1, 3, 2, 0, 0, 0]])
    found = mask_words(
        ids, share, mask_id=50, vocab_size=50, generator=torch.Generator().manual_seed(seed)
    )
    return ids, found.ids, found.targets


def test_masking_hides_known_words_alone_and_at_least_one() -> None:
    for seed in range(20):
        ids, changed, targets = masked(0.01, seed)
        hidden = targets != IGNORED
        assert hidden.sum(dim=1).tolist()[1:] == [1, 0]  # the last has no known word
        assert hidden[0].sum() >= 1
        assert torch.equal(targets[hidden], ids[hidden])
        assert torch.equal(changed[~hidden], ids[~hidden])


def test_masking_puts_mask_for_most_and_words_for_some() -> None:
    ids = torch.full((400, 4), 7)
    found = mask_words(
        ids, 0.9, mask_id=50, vocab_size=50, generator=torch.Generator().manual_seed(0)
    )
    hidden = found.ids[found.targets != IGNORED]
    assert 0.75 < (hidden == 50).float().mean() < 0.85
    assert ((hidden != 50) & (hidden != 7)).any()
    assert (hidden >= 4).all()


def test_masking_one_word_hides_one_of_each_sentence() -> None:
    ids = torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]])
    found = mask_one_word(ids, mask_id=50, generator=torch.Generator().manual_seed(1))
    assert (found.ids == 50).sum(dim=1).tolist() == [1, 1]
    assert found.targets[1].tolist() == [IGNORED, 7, IGNORED, IGNORED]


def test_hidden_words_are_masked_wherever_they_stand() -> None:
    assert hide_words([5, 6, 5, 7], {5, 9}, 50) == [50, 6, 50, 7]


def test_masked_word_loss_without_hidden_words_is_zero() -> None:
    states = torch.randn(1, 2, 3, requires_grad=True)
    loss = masked_word_loss(lambda x: x, states, torch.full((1, 2), IGNORED))
    loss.backward()
    assert loss.item() == 0.0
