"""Captions as numbers, and an epoch's order: what is drawn, how often, in which company, and what
may be mirrored."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.geometry import Box, CellGrid
from models.tokenizer import Vocabulary
from training.data.batching import epoch_batches, pad_captions, seeded
from training.data.datasets import CaptionedImage
from training.data.examples import Example, flippable, make_examples
from training.data.flickr30k_entities import GroundedCaption, Phrase

WORDS = ("a", "cat", "dog", "left", "of", "runs")
VOCABULARY = Vocabulary(WORDS)


def example(*lengths: int, weight: float = 1.0) -> Example:
    """An example whose captions have these lengths; its words tell caption and place apart."""
    captions = tuple(
        tuple(10 * number + place for place in range(length))
        for number, length in enumerate(lengths, 1)
    )
    return Example("key", None, captions, weight, True)


@pytest.mark.parametrize(
    "caption",
    [
        "A man turns left.",
        "LEFT turn only",
        "Right behind the dog",
        "she holds up her right-hand glove",
        "a left-handed batter",
        "the lefthanded pitcher",
        "a righthander throws",
        "the dog (left) and the cat",
        "the child on the man's left's shoulder",
        "the leftmost horse",
        "the rightmost of three",
        "he leans leftward",
        "birds fly rightwards",
        "a lefty at bat",
        "two lefties",
    ],
)
def test_flippable_caption_with_a_side_word_is_false(caption: str) -> None:
    assert not flippable(["A cat sits.", caption])


@pytest.mark.parametrize(
    "caption",
    [
        "a bright light",
        "leftovers on a plate",
        "leftover pizza",
        "he stands upright",
        "a copyright notice",
        "the righteous man",
        "a cleft rock",
        "an alright day",
        "",
    ],
)
def test_flippable_word_that_only_contains_a_side_is_true(caption: str) -> None:
    assert flippable([caption])


def test_flippable_without_captions_is_true() -> None:
    assert flippable([])


def test_make_examples_one_caption_that_names_a_side_forbids_mirroring_the_image() -> None:
    images = [
        CaptionedImage("1", Path("1.jpg"), ("a cat", "a dog left of a cat")),
        CaptionedImage("2", Path("2.jpg"), ("a cat",)),
    ]
    assert [each.flippable for each in make_examples(images, VOCABULARY, 1.0, 20)] == [False, True]


def test_make_examples_caption_that_is_left_out_still_forbids_mirroring() -> None:
    (made,) = make_examples(
        [CaptionedImage("1", Path("1.jpg"), ("a cat", "rightmost"))], VOCABULARY, 1.0, 20
    )
    assert made.captions == (tuple(VOCABULARY.encode("a cat")),)
    assert not made.flippable


def test_make_examples_unknown_words_are_unk_and_images_without_a_known_word_are_left_out() -> None:
    images = [
        CaptionedImage("known", Path("1.jpg"), ("A cat runs!", "a zebra", "zebra", "...")),
        CaptionedImage("unknown", Path("2.jpg"), ("zebras", "")),
    ]
    (made,) = make_examples(images, VOCABULARY, 0.5, 20)
    assert (made.key, made.path, made.weight) == ("known", Path("1.jpg"), 0.5)
    assert made.captions == (
        tuple(VOCABULARY.encode("a cat runs")),
        (VOCABULARY.encode("a")[0], Vocabulary.unk_id),
    )
    assert made.longest == 3


def test_make_examples_long_caption_is_cut_to_max_length() -> None:
    (made,) = make_examples(
        [CaptionedImage("1", None, ("a cat runs left of a dog",))], VOCABULARY, 1.0, 3
    )
    assert made.captions == (tuple(VOCABULARY.encode("a cat runs")),)


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=5))
def test_seeded_same_parts_draw_alike_and_other_parts_differently(parts: list[int]) -> None:
    def draw(*numbers: int) -> list[float]:
        return torch.rand(8, generator=seeded(*numbers)).tolist()

    assert draw(*parts) == draw(*parts)
    assert draw(*parts) != draw(*parts[:-1], parts[-1] + 1)
    assert draw(*parts) != draw(*parts, 0)


@given(
    lengths=st.lists(st.integers(1, 30), max_size=60),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_epoch_batches_weight_one_takes_every_image_exactly_once(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    examples = [example(length) for length in lengths]
    batches = epoch_batches(examples, batch_size, seeded(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(examples)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)


@pytest.mark.parametrize(
    ("weight", "allowed"), [(0.4, {0, 1}), (1.0, {1}), (2.0, {2}), (2.75, {2, 3})]
)
def test_epoch_batches_weight_is_how_often_an_image_comes_on_average(
    weight: float, allowed: set[int]
) -> None:
    examples = [example(3, weight=weight) for _ in range(500)]
    total = 0
    for epoch in range(20):
        counts = Counter(
            index for batch in epoch_batches(examples, 32, seeded(epoch)) for index in batch
        )
        assert {counts[index] for index in range(500)} <= allowed
        total += counts.total()
    # 10,000 draws: the standard error of the mean is at most 0.005
    assert total / 10_000 == pytest.approx(weight, abs=0.025)


def test_epoch_batches_same_seed_gives_same_batches_and_another_epoch_others() -> None:
    examples = [example(1 + index % 17, weight=0.7) for index in range(300)]
    first = epoch_batches(examples, 8, seeded(1, 0))
    assert first == epoch_batches(examples, 8, seeded(1, 0))
    assert first != epoch_batches(examples, 8, seeded(1, 1))


def test_epoch_batches_similar_lengths_share_a_batch() -> None:
    examples = [example(1 + index * 7 % 30) for index in range(1200)]  # one window of 40 batches

    def padding(batches: list[list[int]]) -> int:
        return sum(
            max(examples[index].longest for index in batch) - examples[other].longest
            for batch in batches
            for other in batch
        )

    batches = epoch_batches(examples, 30, seeded(5))
    shuffled = torch.randperm(1200, generator=seeded(5)).view(-1, 30).tolist()
    assert padding(batches) * 10 < padding(shuffled)
    longest = [max(examples[index].longest for index in batch) for batch in batches]
    assert longest != sorted(longest)  # the batches themselves come in any order


def test_epoch_batches_without_examples_are_none() -> None:
    assert epoch_batches([], 4, seeded(0)) == []


def test_pad_captions_layout_is_bos_words_eos_pad() -> None:
    ids, targets = pad_captions([example(3), example(1)], 1, seeded(0))
    pad, bos, eos = Vocabulary.pad_id, Vocabulary.bos_id, Vocabulary.eos_id
    assert targets is None
    assert ids.dtype == torch.long
    assert ids.tolist() == [[[bos, 10, 11, 12, eos]], [[bos, 10, eos, pad, pad]]]


def test_pad_captions_fewer_than_group_leaves_rows_of_pad_alone() -> None:
    ids, _ = pad_captions([example(2), example(1, 1, 1)], 3, seeded(0))
    assert ids.shape == (2, 3, 4)
    assert (ids[0, 1:] == Vocabulary.pad_id).all()
    assert (ids[1, :, 0] == Vocabulary.bos_id).all()


def test_pad_captions_more_than_group_draws_different_ones_each_equally_often() -> None:
    counts: Counter[int] = Counter()
    for step in range(300):
        firsts = pad_captions([example(1, 1, 1, 1, 1)], 2, seeded(step))[0][0, :, 1].tolist()
        assert len(set(firsts)) == 2
        counts.update(firsts)
    assert set(counts) == {10, 20, 30, 40, 50}
    # Four to five standard deviations.
    assert all(count == pytest.approx(120, abs=40) for count in counts.values())


def test_pad_captions_length_is_that_of_the_longest_drawn_caption() -> None:
    both = example(1, 9)
    widths = {pad_captions([both], 1, seeded(step))[0].shape[-1] for step in range(20)}
    assert widths == {3, 11}


def test_pad_captions_same_generator_gives_same_ids() -> None:
    images = [example(1, 2, 3, 4, 5), example(5, 4, 3)]
    assert torch.equal(pad_captions(images, 2, seeded(4))[0], pad_captions(images, 2, seeded(4))[0])


BOX = Box(0.0, 0.0, 0.5, 1.0)
GRID = CellGrid(1, 2)
GROUNDED = {
    "1": (
        GroundedCaption(("a", "dog", "runs"), ()),
        GroundedCaption(
            ("a", "cat", "left", "of", "a", "dog"), (Phrase(0, 2, (BOX,)), Phrase(4, 6, (BOX,)))
        ),
    )
}


def test_make_examples_grounding_is_found_by_tokens_in_step_with_the_captions() -> None:
    image = CaptionedImage("1", None, ("zebras", "A cat left of a dog.", "a cat", "A dog runs!"))
    (made,) = make_examples([image], VOCABULARY, 1.0, 20, grounding=GROUNDED)
    assert len(made.captions) == 3
    assert made.grounding == ((Phrase(0, 2, (BOX,)), Phrase(4, 6, (BOX,))), (), ())


@pytest.mark.parametrize(
    ("max_length", "kept"), [(6, [(0, 2), (4, 6)]), (5, [(0, 2), (4, 5)]), (4, [(0, 2)])]
)
def test_make_examples_phrases_are_cut_with_the_caption(
    max_length: int, kept: list[tuple[int, int]]
) -> None:
    (made,) = make_examples(
        [CaptionedImage("1", None, ("a cat left of a dog",))],
        VOCABULARY,
        1.0,
        max_length,
        grounding=GROUNDED,
    )
    assert [(phrase.start, phrase.end) for phrase in made.grounding[0]] == kept


def test_make_examples_image_that_is_not_grounded_has_no_grounding() -> None:
    image = CaptionedImage("2", None, ("a cat left of a dog",))
    assert make_examples([image], VOCABULARY, 1.0, 20, grounding=GROUNDED)[0].grounding == ()
    assert make_examples([image], VOCABULARY, 1.0, 20)[0].grounding == ()


def grounded_example(length: int, *phrases: Phrase) -> Example:
    return Example("key", None, (tuple(range(10, 10 + length)),), 1.0, True, grounding=(phrases,))


def test_pad_captions_targets_are_of_phrases_on_the_steps_that_predict_their_words() -> None:
    right = Box(0.5, 0.0, 1.0, 1.0)
    images = [
        grounded_example(3, Phrase(1, 3, (BOX,))),
        grounded_example(4, Phrase(0, 1, (right,))),
    ]
    ids, targets = pad_captions(images, 2, seeded(0), GRID)
    assert targets is not None
    predicted = ids[:, :, 1:].flatten()  # what each of the B * group * (T + 1) steps predicts
    assert ids.shape == (2, 2, 6)
    assert predicted[targets.positions].tolist() == [11, 12, 10]
    assert targets.positions.tolist() == [1, 2, 10]
    assert targets.shares.tolist() == [[1, 0], [1, 0], [0, 1]]


def test_pad_captions_with_a_grid_draws_the_same_captions() -> None:
    images = [example(1, 2, 3, 4, 5), example(5, 4, 3)]
    ids, targets = pad_captions(images, 2, seeded(4), GRID)
    assert torch.equal(ids, pad_captions(images, 2, seeded(4))[0])
    assert targets is not None
    assert (targets.positions.shape, targets.shares.shape) == ((0,), (0, 2))


def test_pad_captions_drawn_caption_brings_its_own_phrases() -> None:
    captions = tuple((10 * number, 10 * number + 1) for number in range(1, 6))
    grounding = tuple((Phrase(1, 2, (Box(0.0, 0.0, number / 10, 1.0),)),) for number in range(1, 6))
    image = Example("key", None, captions, 1.0, True, grounding=grounding)
    for step in range(20):
        ids, targets = pad_captions([image], 3, seeded(step), GRID)
        assert targets is not None
        words = ids[:, :, 1:].flatten()[targets.positions]
        assert len(words) == 3
        assert targets.shares[:, 0].tolist() == pytest.approx(((words // 10) / 5).tolist())


def test_pad_captions_boxes_that_no_cell_sees_teach_nothing() -> None:
    grid = CellGrid(1, 2, Box(0.6, 0.0, 1.0, 1.0))
    _, targets = pad_captions([grounded_example(3, Phrase(0, 2, (BOX,)))], 1, seeded(0), grid)
    assert targets is not None
    assert len(targets.positions) == 0


def test_attention_targets_to_device_keeps_both() -> None:
    _, targets = pad_captions([grounded_example(3, Phrase(0, 2, (BOX,)))], 1, seeded(0), GRID)
    assert targets is not None
    moved = targets.to(torch.device("cpu"))
    assert torch.equal(moved.positions, targets.positions)
    assert torch.equal(moved.shares, targets.shares)
