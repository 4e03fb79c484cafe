"""The runtime in OpenVINO gives what PyTorch gives: features, tags, scores and captions."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from models.array_features import Features
from models.config import DecodingOptions, ModelConfig
from models.decoders.config import AttentionConfig
from models.decoding import decode
from models.encoders import default_preprocess
from models.errors import ConfigError
from models.network import CaptioningModel
from models.runtime import Runtime
from models.runtime.openvino import OpenVINORuntime, can_run
from models.runtime.torch import TorchRuntime
from tests.unit.seeing_toys import seeing_config, seeing_model
from tests.unit.test_tagging import photo, pixels_of
from tests.unit.toys import tiny_config, tiny_model

ATTENTIONS = ["additive", "dot-product", "cosine", "hard"]
PHOTOS = ("chelsea", "coffee", "astronaut")
SAMPLES = 50


def both(config: ModelConfig, network: CaptioningModel) -> tuple[TorchRuntime, OpenVINORuntime]:
    """One network in both runtimes."""
    tensors: dict[str, npt.NDArray[Any]] = {
        name: tensor.numpy() for name, tensor in network.state_dict().items()
    }
    return (
        TorchRuntime(network, config.preprocess, precision="float32"),
        OpenVINORuntime(config, tensors, precision="float32", threads=1),
    )


def random_pixels(images: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(images)
    return torch.randint(256, (images, 3, side, side), generator=generator).to(torch.uint8)


def assert_same_captions(
    one: Runtime[Any], other: Runtime[Any], features: Features, options: DecodingOptions
) -> None:
    for first, second in zip(
        decode(one.decoder, features, options),
        decode(other.decoder, features, options),
        strict=True,
    ):
        assert [each.token_ids for each in first.captions] == [
            each.token_ids for each in second.captions
        ]
        for mine, theirs in zip(first.captions, second.captions, strict=True):
            for part in ("logprobs", "alphas", "betas", "tag_shares"):
                np.testing.assert_allclose(
                    getattr(mine, part), getattr(theirs, part), atol=1e-4, rtol=1e-3
                )


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_captions_and_scores_of_every_attention_are_those_of_torch(attention: str) -> None:
    config = tiny_config(attention=attention)
    torchs, openvinos = both(config, tiny_model(config))
    pixels = random_pixels(3, 56)

    features = torchs.encode(pixels)
    found = openvinos.encode(pixels)

    np.testing.assert_allclose(found.annotations, features.annotations, atol=1e-4, rtol=1e-4)
    assert features.annotations.std() > 0.1
    options = DecodingOptions(beam_size=4, num_captions=4, max_length=6)
    assert_same_captions(torchs, openvinos, features, options)
    token_ids = np.random.default_rng(2).integers(4, 12, (3, 2, 5))
    for mine, theirs in zip(
        torchs.score_tokens(features, token_ids),
        openvinos.score_tokens(features, token_ids),
        strict=True,
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=1e-3)


@pytest.fixture(scope="module")
def seeing(tagger_tensors: dict[str, Tensor]) -> tuple[TorchRuntime, OpenVINORuntime]:
    """A decoder that attends to tags, with the published tagger."""
    config = seeing_config()
    network = seeing_model(config, tagger_tensors)
    with torch.no_grad():  # what it looks at matters to what it says next
        generator = torch.Generator().manual_seed(4)
        for name in ("lstm_tags", "readout_tags"):
            weight = network.get_parameter(f"decoder.{name}.weight")
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return both(config, network)


def test_tags_are_those_of_torch_and_captions_copy_the_same_words(
    seeing: tuple[TorchRuntime, OpenVINORuntime],
) -> None:
    torchs, openvinos = seeing
    pixels = torch.cat([pixels_of(photo(name)) for name in PHOTOS])

    features = torchs.encode(pixels)
    found = openvinos.encode(pixels)

    assert features.tags is not None
    assert found.tags is not None
    assert np.array_equal(found.tags.classes, features.tags.classes)
    assert features.tags.present.sum() > 8
    np.testing.assert_allclose(found.tags.values, features.tags.values, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(found.annotations, features.annotations, atol=1e-3, rtol=1e-3)
    options = DecodingOptions(beam_size=3, num_captions=3, max_length=6)
    assert_same_captions(torchs, openvinos, features, options)


def test_a_photo_has_the_same_features_alone_and_among_others(
    seeing: tuple[TorchRuntime, OpenVINORuntime],
) -> None:
    _, runtime = seeing
    pixels = torch.cat([pixels_of(photo(name)) for name in PHOTOS])
    together = runtime.encode(pixels)
    alone = np.concatenate([runtime.encode(each[None]).annotations for each in pixels])
    np.testing.assert_allclose(together.annotations, alone, atol=1e-4, rtol=1e-4)


def inception_config(**fields: Any) -> ModelConfig:
    described: dict[str, Any] = {
        "name": "inception",
        "encoder": "inception_v3",
        "decoder": AttentionConfig(embed_dim=8, decoder_dim=12, attention_dim=6),
        "vocab_size": 30,
        "preprocess": default_preprocess("inception_v3", 251),
    }
    return ModelConfig.model_validate(described | fields)


def test_inception_gives_what_torch_gives_alone_from_a_larger_size_and_beside_another() -> None:
    larger = default_preprocess("inception_v3", 251).model_copy(update={"size_pixels": 300})
    pair = inception_config(encoder="inception_v3+efficientnet_lite0")
    sized = inception_config(preprocess=larger, encoder_pixels=251)
    for config in (inception_config(), sized, pair):
        torchs, openvinos = both(config, tiny_model(config))
        pixels = random_pixels(2, config.preprocess.size_pixels)
        expected = torchs.encode(pixels).annotations
        found = openvinos.encode(pixels).annotations
        scale = float(expected.abs().max())
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4, rtol=1e-3)


def test_two_threads_compute_at_the_same_time_each_in_a_request_of_its_own() -> None:
    config = tiny_config()
    _, runtime = both(config, tiny_model(config))
    pixels = random_pixels(1, 56)
    expected = runtime.encode(pixels).annotations
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: runtime.encode(pixels).annotations, range(8)))
    assert all(np.array_equal(each, expected) for each in found)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads are not told apart")
def test_no_thread_is_bound_to_a_processor_of_its_own() -> None:
    """Two processes with a thread each would sit on the first processor, and halve each other."""
    config = tiny_config()
    _, runtime = both(config, tiny_model(config))
    pixels = random_pixels(64, config.preprocess.size_pixels)
    allowed = os.sched_getaffinity(0)
    samples = 0
    with ThreadPoolExecutor(1) as pool:
        while samples < SAMPLES:
            computing = pool.submit(runtime.encode, pixels)
            while not computing.done():
                samples += 1
                for thread in Path("/proc/self/task").iterdir():
                    with suppress(ProcessLookupError):  # it may have ended meanwhile
                        assert os.sched_getaffinity(int(thread.name)) == allowed


def test_models_that_see_alike_have_their_eyes_in_memory_once() -> None:
    config = tiny_config()
    network = tiny_model(config)
    _, one = both(config, network)
    _, two = both(config, network)
    with torch.no_grad():
        next(network.encoder.parameters()).add_(0.1)
    _, other = both(config, network)
    assert one._eyes is two._eyes
    assert one._eyes is not other._eyes
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()


def test_features_are_told_to_be_those_of_torch_in_float32(
    seeing: tuple[TorchRuntime, OpenVINORuntime],
) -> None:
    torchs, openvinos = seeing
    assert openvinos.fingerprint() == torchs.fingerprint()


@pytest.mark.parametrize(
    "fields", [{"decoder": "nic"}, {"decoder": "transformer"}, {"decoder": "lrcn-factored"}]
)
def test_a_model_without_a_graph_is_refused_in_words(fields: dict[str, Any]) -> None:
    config = tiny_config(**fields)
    assert not can_run(config)
    with pytest.raises(ConfigError, match="no OpenVINO graph for the model 'tiny'"):
        OpenVINORuntime(config, {}, precision="auto", threads=1)


def test_describe_names_the_runtime_its_precision_and_threads() -> None:
    config = tiny_config()
    network = tiny_model(config)
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    runtime = OpenVINORuntime(config, tensors, precision="float32", threads=2)
    said = runtime.describe()
    assert (said.name, said.precision, said.threads) == ("openvino", "float32", 2)
    assert said.version[0].isdigit()
    assert said.reason == "it was asked for"
