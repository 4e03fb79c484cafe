"""Captions and scores of a decoder that attends to tags: each image's own tags, whatever the search
reorders."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from models.config import DecodingOptions
from models.decoders.show_attend_tell import AttentionDecoder
from models.decoders.tag_attention import TagAttention
from models.decoding import ScoredCaption, SpecialIds, decode
from models.features import ImageFeatures, Tags
from models.network import CaptioningModel, normalize
from models.runtime.torch import TorchRuntime, TorchSteps
from models.sampling import sample, suppress_tokens
from models.tagging.classes import tag_classes
from models.tokenizer import Vocabulary
from tests.unit.seeing_toys import KNOWN, seeing_config, seeing_model
from tests.unit.test_runtime import score_by_steps
from tests.unit.test_tagging import photo, pixels_of

L, W = 196, 3
CONFIG = seeing_config()
SPOKEN_OF = ("dog", "cat", "cup", "espresso")
NUMBERS = [[each.name for each in tag_classes()].index(name) for name in SPOKEN_OF]
OPTIONS = DecodingOptions(beam_size=4, num_captions=4, max_length=6)


@pytest.fixture(scope="module")
def network() -> CaptioningModel:
    network = seeing_model(CONFIG)
    torch.nn.init.constant_(network.get_parameter("decoder.tags.none.bias"), -2.0)
    with torch.no_grad():  # what it looks at matters to what it says next
        generator = torch.Generator().manual_seed(4)
        for name in ("lstm_tags", "readout_tags"):
            weight = network.get_parameter(f"decoder.{name}.weight")
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return network


@pytest.fixture(scope="module")
def runtime(network: CaptioningModel) -> TorchRuntime:
    return TorchRuntime(network, CONFIG.preprocess, precision="float32")


@pytest.fixture(scope="module")
def features(network: CaptioningModel) -> ImageFeatures:
    """Three images; the third has but one tag."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randint(len(NUMBERS), (3, W), generator=generator)
    scores = torch.rand(3, W, generator=generator).clamp(min=0.1)
    scores[2, 1:] = 0.0
    places = torch.rand(3, W, L, generator=generator) ** 8 * (scores > 0).unsqueeze(2)
    tags = Tags.pack(
        torch.tensor(NUMBERS)[chosen],
        scores,
        torch.rand(3, W, 4, generator=generator).sort(dim=2).values,
        places / places.sum(dim=2, keepdim=True).clamp(min=1e-6),
    )
    return ImageFeatures(torch.randn(3, L, network.feature_dim, generator=generator), tags)


def read_anew(decoder: AttentionDecoder, image: ImageFeatures, found: ScoredCaption) -> None:
    """Step through a caption alone: every number that the search kept is that of its own words."""
    special = SpecialIds()
    state = decoder.init_state(image.annotations, image.tags)
    for place, (last, word) in enumerate(pairwise((special.bos, *found.token_ids, special.eos))):
        output = decoder.step(torch.tensor([last]), state)
        state = output.state
        logits = suppress_tokens(output.logits, special, first=place == 0)
        logprob = logits.log_softmax(dim=-1)[0, word]
        if place < OPTIONS.max_length or logprob > -20:
            np.testing.assert_allclose(found.logprobs[place], logprob, atol=1e-4, rtol=1e-4)
        if place < len(found.token_ids):
            assert output.tag_shares is not None
            np.testing.assert_allclose(found.alphas[place], output.alpha[0], atol=1e-5, rtol=1e-4)
            np.testing.assert_allclose(
                found.tag_shares[place], output.tag_shares[0], atol=1e-5, rtol=1e-4
            )


@torch.no_grad()
def test_decode_keeps_with_each_caption_what_reading_it_anew_gives(
    network: CaptioningModel, features: ImageFeatures
) -> None:
    decoder = network.decoder
    assert isinstance(decoder, AttentionDecoder)

    results = decode(TorchSteps(decoder), features, OPTIONS)

    lengths = set()
    for image, result in zip(features, results, strict=True):
        assert len(result.captions) == 4
        assert len({caption.token_ids for caption in result.captions}) == 4
        for caption in result.captions:
            assert caption.tag_shares.shape == (len(caption.token_ids), W)
            read_anew(decoder, image, caption)
            lengths.add(len(caption.token_ids))
    assert len(lengths) > 1
    (first, _, third) = (result.captions[0].tag_shares for result in results)
    assert first.max() > 0.2  # it does look at tags
    assert not third[:, 1:].any()  # and never at absent ones


@torch.no_grad()
def test_decode_finds_for_each_image_in_a_batch_what_it_finds_for_it_alone(
    network: CaptioningModel, features: ImageFeatures
) -> None:
    together = decode(TorchSteps(network.decoder), features, OPTIONS)

    for image, result in zip(features, together, strict=True):
        (alone,) = decode(TorchSteps(network.decoder), image, OPTIONS)
        assert [each.token_ids for each in alone.captions] == [
            each.token_ids for each in result.captions
        ]


def test_score_tokens_with_tags_equals_repeated_steps_and_hangs_on_them(
    runtime: TorchRuntime, features: ImageFeatures
) -> None:
    token_ids = np.random.default_rng(0).integers(2, 15, (3, 2, 5))

    logprobs, alphas = runtime.score_tokens(features, token_ids)

    expected, expected_alphas = score_by_steps(runtime.decoder, features, token_ids)
    np.testing.assert_allclose(logprobs, expected, atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(alphas, expected_alphas, atol=1e-5, rtol=1e-4)
    blind, _ = runtime.score_tokens(ImageFeatures(features.annotations), token_ids)
    assert np.abs(logprobs - blind).max() > 0.1


def test_sample_draws_of_each_image_by_its_own_tags(features: ImageFeatures) -> None:
    """Where nothing but tags is looked at and their words are all that counts, they are said."""
    network = seeing_model(CONFIG)
    assert isinstance(network.decoder.tags, TagAttention)
    attention = network.decoder.tags
    torch.nn.init.constant_(attention.gain, 500.0)
    torch.nn.init.constant_(attention.none.bias, -100.0)
    assert features.tags is not None
    values = features.tags.values.clone()
    values[..., 0] = torch.tensor(NUMBERS[:3]).unsqueeze(1)  # dogs, cats, cups

    drawn = sample(
        network.decoder,
        ImageFeatures(features.annotations, Tags(values)),
        count=4,
        max_length=5,
        generator=torch.Generator().manual_seed(0),
    )

    vocabulary = Vocabulary(KNOWN)
    assert drawn.shape[0] == 12
    for image, name in enumerate(SPOKEN_OF[:3]):
        rows: Tensor = drawn[4 * image : 4 * image + 4]
        said = {word for row in rows.tolist() for word in vocabulary.decode(row)}
        assert said <= {*tag_classes()[NUMBERS[image]].words}, name
        assert name in said


def test_encode_gives_annotations_of_both_eyes_and_the_taggers_tags(
    network: CaptioningModel, runtime: TorchRuntime, tagger_tensors: dict[str, Tensor]
) -> None:
    assert network.tagger is not None
    network.tagger.load_state_dict(tagger_tensors)
    pixels = torch.cat([pixels_of(photo(name)) for name in ("coffee", "chelsea")])

    found = runtime.encode(pixels)

    assert found.annotations.shape == (2, L, network.feature_dim)
    assert found.annotations.dtype == torch.float32
    with torch.inference_mode():
        sighting = network.tagger(pixels)
        small = torch.nn.functional.interpolate(
            pixels.float(), size=(56, 56), mode="bilinear", antialias=True
        )
        cells = network(normalize(small, CONFIG.preprocess))
    torch.testing.assert_close(found.annotations[..., :64], cells, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.annotations[..., 64:], sighting.maps, atol=1e-4, rtol=1e-4)
    assert found.tags is not None
    assert found.tags.present.any(dim=1).all()
    torch.testing.assert_close(found.tags.values, sighting.tags.values, atol=1e-4, rtol=1e-4)
    assert not found.annotations.requires_grad


def test_without_encoder_hides_its_features_of_the_chosen_images_alone(
    network: CaptioningModel, features: ImageFeatures
) -> None:
    hidden = torch.zeros(len(features), dtype=torch.bool)
    hidden[1] = True

    partly = network.without_encoder(features, hidden)

    assert partly.tags is features.tags
    assert torch.equal(partly.annotations[~hidden], features.annotations[~hidden])
    first = network.encoder.feature_dim
    assert not partly.annotations[1, :, :first].any()
    assert torch.equal(partly.annotations[1, :, first:], features.annotations[1, :, first:])
