"""Pairs in batches: every pair once, within the tokens, both manners, and the same draws again."""

from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from models.errors import ConfigError
from models.translation.subwords import BOS, EOS, PAD, as_captioned
from tests.unit.toy_translators import PAIRS, toy_subwords
from training.data.batching import seeded
from training.data.pairs import SentencePair
from training.translation.batches import Example, PairBatches, encode_pairs, token_batches

PAIRS_READ = [SentencePair(source, target) for source, target in PAIRS]


def examples_of(
    pairs: Sequence[SentencePair] = tuple(PAIRS_READ), longest: int = 100
) -> list[Example]:
    return encode_pairs(pairs, toy_subwords(), toy_subwords(), longest)


def batches_of(captioned_share: float = 0.5, sampling: float = 0.0) -> PairBatches:
    subwords = toy_subwords()
    return PairBatches(
        examples_of(), subwords, subwords, captioned_share=captioned_share, sampling=sampling
    )


def test_token_batches_take_every_pair_once_within_the_tokens() -> None:
    examples = examples_of()
    batches = token_batches(examples, 90, seeded(1))
    assert sorted(index for batch in batches for index in batch) == list(range(len(examples)))
    assert all(max(examples[i].size for i in batch) * len(batch) <= 90 for batch in batches)
    assert len(batches) > 1


def test_token_batches_a_pair_that_is_too_long_is_a_batch_by_itself() -> None:
    batches = token_batches(examples_of(), 1, seeded(1))
    assert [len(batch) for batch in batches] == [1] * len(PAIRS)


def test_token_batches_weight_is_how_often_a_pair_is_taken() -> None:
    pairs = [SentencePair(p.source, p.target, 2.5) for p in PAIRS_READ]
    counts: Counter[int] = Counter()
    for epoch in range(40):
        batches = token_batches(examples_of(pairs), 200, seeded(epoch))
        counts.update(index for batch in batches for index in batch)
    mean = sum(counts.values()) / 40 / len(pairs)
    assert mean == pytest.approx(2.5, abs=0.1)


def test_token_batches_are_those_of_the_generator() -> None:
    examples = examples_of()
    assert token_batches(examples, 90, seeded(1)) == token_batches(examples, 90, seeded(1))
    assert token_batches(examples, 90, seeded(1)) != token_batches(examples, 90, seeded(2))


def test_batch_has_ends_and_padding() -> None:
    batch = batches_of(0.0).prepare(range(len(PAIRS)), seeded(1))
    subwords = toy_subwords()
    for (source, target), sources, targets in zip(PAIRS, batch.source, batch.target, strict=True):
        assert sources[sources != PAD].tolist() == [*subwords.encode(source), EOS]
        assert targets[targets != PAD].tolist() == [BOS, *subwords.encode(target), EOS]


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (1.0, 48, 48), (0.5, 12, 36)])
def test_sources_come_in_both_manners_and_targets_as_written(
    share: float, low: int, high: int
) -> None:
    batch = batches_of(share).prepare(range(len(PAIRS)), seeded(3))
    subwords = toy_subwords()
    texts = [subwords.decode(row.tolist()) for row in batch.source]
    captioned = sum(
        text == as_captioned(source) for text, (source, _) in zip(texts, PAIRS, strict=True)
    )
    assert low <= captioned <= high
    assert [subwords.decode(row.tolist()) for row in batch.target] == [p[1] for p in PAIRS]


def test_sampled_batch_is_that_of_the_generator_and_differs_from_another() -> None:
    batches = batches_of(sampling=0.2)
    one, again, other = (batches.prepare(range(8), seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.target, again.target)
    assert one.target.shape != other.target.shape or not torch.equal(one.target, other.target)


def test_long_pairs_are_left_out_and_none_is_refused() -> None:
    sizes = [example.size for example in examples_of()]
    kept = examples_of(longest=min(sizes) - 1)
    assert 0 < len(kept) < len(sizes)
    with pytest.raises(ConfigError, match="max_subwords"):
        examples_of(longest=1)
