"""The three matchers on small tensors: regions, padding, co-attention, blanks, batches."""

from dataclasses import replace

import pytest
import torch

from models.errors import ConfigError
from models.features import ImageFeatures
from models.matching.bundle import build_matcher
from models.matching.config import MatcherConfig
from models.matching.layers import CoAttentionLayer
from models.matching.nce import NceMatcher
from models.matching.regions import NO_CLASS, append_boxes, find_regions
from models.matching.vilbert import Vilbert
from models.matching.vl_bert import VlBert
from models.matching.words import pad_sentences
from tests.unit.matching_toys import (
    FEATURES,
    GRID,
    NCE,
    SENTENCES,
    TRANSFORMER_NCE,
    VILBERT,
    VL_BERT,
    WORDS,
    features,
    matcher,
    regions,
    sentences,
)

JOINT = pytest.mark.parametrize("config", [VILBERT, VL_BERT], ids=["vilbert", "vl-bert"])


# -- regions ----


def test_regions_first_is_the_whole_then_blocks_then_tags() -> None:
    seen = features()
    found = find_regions(seen, GRID, 2)

    assert found.features.shape == (3, 1 + 4 + 2, FEATURES)
    torch.testing.assert_close(found.features[:, 0], seen.annotations.mean(dim=1))
    torch.testing.assert_close(found.features[:, 1:5], seen.annotations)  # a block a cell here
    torch.testing.assert_close(found.features[:, 5], seen.annotations[:, 0])
    assert found.classes[1].tolist() == [NO_CLASS] * 5 + [0, 3]
    assert found.present[0].tolist() == [True] * 6 + [False]
    assert not found.masked.any()


def test_regions_of_features_without_tags_are_refused() -> None:
    with pytest.raises(ConfigError, match="this captioner has no tagger"):
        find_regions(ImageFeatures(torch.zeros(1, 4, FEATURES)), GRID, 2)


def test_appended_box_is_masked_and_pools_what_lies_in_it() -> None:
    seen = features()
    box = torch.tensor([[[0.5, 0.0, 1.0, 0.5]]]).expand(3, 1, 4)
    found = append_boxes(regions(), seen.annotations, box, GRID)

    torch.testing.assert_close(found.features[:, -1], seen.annotations[:, 1])
    assert found.masked.sum(dim=1).tolist() == [1, 1, 1]
    assert found.classes[:, -1].tolist() == [NO_CLASS] * 3


# -- sentences ----


def test_sentences_longer_than_the_limit_are_cut_and_keep_their_end() -> None:
    ids = pad_sentences([[5, 6, 7, 8]], max_words=2)
    assert ids.tolist() == [[1, 5, 6, 2]]


# -- nce ----


@pytest.mark.parametrize("config", [NCE, TRANSFORMER_NCE], ids=["recurrent", "transformer"])
def test_nce_padding_changes_no_vector(config: MatcherConfig) -> None:
    model = matcher(config)
    assert isinstance(model, NceMatcher)
    torch.testing.assert_close(
        model.encode_sentences(sentences()), model.encode_sentences(sentences(more=3))
    )


def test_nce_vectors_have_length_one_and_batches_change_nothing() -> None:
    model = matcher(NCE)
    assert isinstance(model, NceMatcher)
    pictures = model.encode_pictures(regions())
    torch.testing.assert_close(pictures.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(pictures[1:2], model.encode_pictures(regions().select(slice(1, 2))))


def test_nce_absent_tag_changes_no_vector_and_class_words_do() -> None:
    model = matcher(NCE)
    assert isinstance(model, NceMatcher)
    before = model.encode_pictures(regions())
    other = regions()
    other.features[0, 6] += 1.0  # the absent one
    torch.testing.assert_close(model.encode_pictures(other), before)
    named = replace(regions(), classes=regions().classes.masked_fill(regions().classes == 0, 1))
    assert not torch.allclose(model.encode_pictures(named), before)


def test_nce_scale_begins_at_the_inverse_temperature_and_is_bounded() -> None:
    model = matcher(NCE)
    assert isinstance(model, NceMatcher)
    assert model.scale.item() == pytest.approx(1 / 0.07)
    torch.nn.init.constant_(model.log_scale, 50.0)
    assert model.scale.item() == pytest.approx(100.0)


# -- the two that read words and regions together ----


@JOINT
def test_joint_padding_and_absent_regions_change_nothing(config: MatcherConfig) -> None:
    model = matcher(config)
    assert isinstance(model, Vilbert | VlBert)
    other = regions()
    other.features[0, 6] += 1.0
    first = model(sentences(), model.prepare(regions()))
    second = model(sentences(more=3), model.prepare(other))

    count = sentences().shape[1]
    present = sentences() != 0
    torch.testing.assert_close(second.words[:, :count][present], first.words[present])
    assert first.regions is not None
    assert second.regions is not None
    there = regions().present
    torch.testing.assert_close(second.regions[there], first.regions[there])
    if first.fits is not None:
        assert second.fits is not None
        torch.testing.assert_close(second.fits, first.fits)


@JOINT
def test_joint_batch_gives_what_single_pairs_give(config: MatcherConfig) -> None:
    model = matcher(config)
    assert isinstance(model, Vilbert | VlBert)
    together = model(sentences(), model.prepare(regions()))
    for row, sentence in enumerate(SENTENCES):
        alone = model(
            pad_sentences([sentence], 24), model.prepare(regions().select(slice(row, row + 1)))
        )
        count = len(sentence) + 2
        torch.testing.assert_close(together.words[row, :count], alone.words[0])


@JOINT
def test_joint_looks_are_shares_of_the_regions_that_are_there(config: MatcherConfig) -> None:
    model = matcher(config)
    assert isinstance(model, Vilbert | VlBert)
    looks = model(sentences(), model.prepare(regions())).looks
    assert looks is not None
    assert looks.shape == (3, 6, 7)
    assert (looks >= 0).all()
    assert not looks[0, :, 6].any()  # an absent tag
    if isinstance(model, Vilbert):
        torch.testing.assert_close(looks.sum(dim=2), torch.ones(3, 6))


@JOINT
def test_joint_without_a_picture_still_reads_words(config: MatcherConfig) -> None:
    model = matcher(config)
    assert isinstance(model, Vilbert | VlBert)
    output = model(sentences(), None)
    assert output.regions is None
    assert output.fits is None
    assert model.table.guess(output.words).shape == (3, 6, WORDS)


@JOINT
def test_joint_words_depend_on_the_picture_and_regions_on_the_words(config: MatcherConfig) -> None:
    model = matcher(config)
    assert isinstance(model, Vilbert | VlBert)
    first = model(sentences(), model.prepare(regions(seed=1)))
    second = model(sentences(), model.prepare(regions(seed=2)))
    assert not torch.allclose(first.words, second.words)
    others = model(sentences().roll(1, dims=0), model.prepare(regions(seed=1)))
    assert first.regions is not None
    assert others.regions is not None
    assert not torch.allclose(first.regions, others.regions)


def test_co_attention_swaps_keys_and_values() -> None:
    """With one answer to choose from, each side hears the other's value and none of its own."""
    torch.manual_seed(3)
    layer = CoAttentionLayer(8, 2, 0.0).eval()
    for side in (layer.words, layer.regions):
        torch.nn.init.zeros_(side.contract.weight)
    for alone in (layer.words_alone, layer.regions_alone):
        torch.nn.init.zeros_(alone.attention.merge.weight)
        torch.nn.init.zeros_(alone.contract.weight)
    words = torch.randn(1, 3, 8)
    region = torch.randn(1, 1, 8)

    heard, answered, looks = layer(
        words, torch.ones(1, 3, dtype=torch.bool), region, torch.ones(1, 1, dtype=torch.bool)
    )

    value = layer.regions.attention.value(layer.regions.attention_norm(region))
    expected = words + layer.words.attention.merge(value)
    torch.testing.assert_close(heard, expected)  # every word hears the one region's value
    assert torch.equal(looks, torch.ones(1, 3, 1))
    assert not torch.allclose(answered, region)
    # a region that is alone would have heard its own value, had it not been swapped
    own = region + layer.regions.attention.merge(value)
    assert not torch.allclose(answered, own)


def test_masked_region_shows_no_class() -> None:
    model = matcher(VL_BERT)
    assert isinstance(model, VlBert)
    masked = regions().masked.clone()
    masked[:, 5] = True
    first = replace(regions(), masked=masked)
    second = replace(first, classes=regions().classes.masked_fill(masked, 7))
    torch.testing.assert_close(model.prepare(first).x, model.prepare(second).x)
    assert not torch.allclose(model.prepare(first).x, model.prepare(regions()).x)


@pytest.mark.parametrize("config", [NCE, VILBERT, VL_BERT])
def test_heads_that_do_not_divide_the_width_are_refused(config: MatcherConfig) -> None:
    odd = config.model_copy(update={"heads": 3})
    with pytest.raises(ConfigError, match="multiple of its 3 heads, not 8"):
        build_matcher(odd, WORDS, FEATURES)


def test_table_begins_from_a_captioners_words_at_its_own_scale() -> None:
    table = matcher(NCE).table
    spread = table.embedding.weight.std()
    words = torch.randn(WORDS, 6) * 40
    table.begin_from(words)
    kept = table.embedding.weight[:WORDS]
    torch.testing.assert_close(kept / kept.std(), words / words.std())
    torch.testing.assert_close(kept.std(), spread, rtol=0.05, atol=0.0)
