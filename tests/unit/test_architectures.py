"""What is known of networks without building them is true of those that are built."""

from typing import Any

import pytest
import torch

from models.architectures.grids import GRIDS, sight_of
from models.architectures.shapes import tensor_shapes
from models.bundles.outline import build_outline
from models.config import ModelConfig, TaggerConfig
from models.decoders.config import AttentionConfig
from models.encoders import default_preprocess
from models.errors import ConfigError
from models.runtime.openvino import can_run
from tests.unit.toys import tiny_config

SIZES = {"inception_v3": 251, "inception_v3+efficientnet_lite0": 251, "tiny": 56}


def config_of(encoder: str, **decoder: Any) -> ModelConfig:
    return ModelConfig(
        name="some",
        encoder=encoder,
        decoder=AttentionConfig(embed_dim=10, decoder_dim=12, attention_dim=6, **decoder),
        vocab_size=30,
        preprocess=default_preprocess(encoder, SIZES[encoder]),
        tagger=TaggerConfig() if decoder.get("tags") else None,
    )


@pytest.mark.parametrize("encoder", GRIDS)
@pytest.mark.parametrize("attention", ["additive", "dot-product", "cosine", "hard"])
@pytest.mark.parametrize("tags", [False, True])
def test_shapes_and_sight_are_those_of_the_network(
    encoder: str, attention: str, tags: bool
) -> None:
    config = config_of(encoder, attention=attention, tags=tags)

    shapes = tensor_shapes(config)

    network = build_outline(config)
    built = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes == built
    assert sight_of(config) == (network.feature_dim, network.encoder.grid)


def test_numbers_that_are_no_parameters_are_whole_ones() -> None:
    """Parameters are told from buffers by their type, where a model is described unbuilt."""
    network = build_outline(config_of("tiny", tags=True))
    parameters = dict(network.named_parameters())
    for name, tensor in network.state_dict().items():
        assert (name in parameters) == tensor.is_floating_point(), name
    assert network.state_dict()["decoder.tags.class_words"].dtype == torch.int64


@pytest.mark.parametrize("fields", [{"decoder": "nic"}, {"decoder": "transformer"}])
def test_other_decoders_have_no_table(fields: dict[str, Any]) -> None:
    assert tensor_shapes(tiny_config(**fields)) is None


def test_every_model_with_a_graph_has_its_shapes_and_no_other() -> None:
    for encoder in GRIDS:
        assert can_run(config_of(encoder))
    other = tiny_config().model_copy(update={"encoder": "mobilenet_v2"})
    assert not can_run(other)
    assert tensor_shapes(other) is None


def test_sizes_and_tags_that_contradict_the_network_are_refused() -> None:
    config = config_of("tiny")
    larger = config.preprocess.model_copy(update={"size_pixels": 99})
    with pytest.raises(ConfigError, match=r"14 x 14 map for 53 to 56 pixels, not for 99"):
        tensor_shapes(config.model_copy(update={"preprocess": larger}))
    untold = config_of("tiny", tags=True).model_copy(update={"tagger": None})
    with pytest.raises(ConfigError, match="no tagger that finds any"):
        tensor_shapes(untold)
