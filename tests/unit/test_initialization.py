"""Initializing from another captioner: what fits by name and shape, what has more columns, and what
stays as it is."""

import pytest
import torch
from torch import Tensor

from models.config import ModelConfig
from models.decoders.config import AttentionConfig
from models.encoders import default_preprocess
from models.network import CaptioningModel, build_model, overlap, sees_more
from training.initialization import initialize_from

PAIR = "inception_v3+efficientnet_lite0"


def captioner(encoder: str, size_pixels: int = 251, embed_dim: int = 16) -> CaptioningModel:
    config = ModelConfig(
        name="toy",
        encoder=encoder,
        vocab_size=9,
        decoder=AttentionConfig(embed_dim=embed_dim, decoder_dim=24, attention_dim=8),
        preprocess=default_preprocess(encoder, size_pixels),
    )
    return build_model(config)


def key_weights(model: CaptioningModel) -> Tensor:
    """The weights of the attention's keys."""
    return model.get_parameter("decoder.attention.key.weight").detach()


@pytest.fixture(scope="module")
def one() -> CaptioningModel:
    return captioner("inception_v3")


def test_initialize_from_alike_takes_everything(one: CaptioningModel) -> None:
    other = captioner("inception_v3")
    initialize_from(other, one)
    assert not sees_more(other, one)
    assert all(
        torch.equal(tensor, one.state_dict()[name]) for name, tensor in other.state_dict().items()
    )


def test_initialize_from_some_parts_takes_those_alone(one: CaptioningModel) -> None:
    other = captioner("inception_v3")
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    initialize_from(other, one, ["encoder", "words"])
    theirs = one.state_dict()
    taken = ("encoder.", "decoder.embedding.", "decoder.output.")
    for name, tensor in other.state_dict().items():
        expected = theirs if name.startswith(taken) else before
        assert torch.equal(tensor, expected[name]), name
    assert not torch.equal(key_weights(other), key_weights(one))


def test_initialize_from_behind_one_more_encoder_is_blind_to_its_features(
    one: CaptioningModel,
) -> None:
    pair = captioner(PAIR)
    beside = {name: t.clone() for name, t in pair.state_dict().items() if ".beside." in name}
    initialize_from(pair, one)
    assert sees_more(pair, one)
    assert set(overlap(pair, one)) == set(one.state_dict())
    for name, tensor in one.state_dict().items():
        own = pair.state_dict()[name]
        assert torch.equal(own[..., : tensor.shape[-1]], tensor)
        if own.dim() > 1:
            assert not own[..., tensor.shape[-1] :].any()
    assert torch.equal(pair.get_parameter("decoder.normalise.weight")[768:], torch.ones(320))
    assert all(torch.equal(pair.state_dict()[name], tensor) for name, tensor in beside.items())


def test_initialize_from_what_is_narrower_for_another_reason_stays_as_it_is(
    one: CaptioningModel,
) -> None:
    pair = captioner(PAIR, embed_dim=20)
    before = pair.decoder.embedding.weight.clone()
    initialize_from(pair, one)
    assert "decoder.embedding.weight" not in overlap(pair, one)
    assert torch.equal(pair.decoder.embedding.weight, before)
    assert torch.equal(key_weights(pair)[:, :768], key_weights(one))


def test_initialize_from_features_of_a_strange_encoder_are_not_taken_for_the_first_ones() -> None:
    pair = captioner(PAIR)
    strange = captioner("mobilenet_v2", 448)
    before = key_weights(pair).clone()
    initialize_from(pair, strange)
    assert not sees_more(pair, strange)
    assert torch.equal(key_weights(pair), before)
