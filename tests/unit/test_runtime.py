"""Runtimes: PyTorch's scores given captions as it steps, and says what its annotations hang on; a
captioner works over any."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.array_features import Features
from models.caption import ModelInfo, RuntimeInfo
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.decoding import StepDecoder, log_softmax
from models.features import ImageFeatures
from models.geometry import CellGrid
from models.network import CaptioningModel, normalize
from models.preprocessing import PreparedImage
from models.runtime import Runtime, Scores
from models.runtime.torch import (
    Precision,
    TorchRuntime,
    TorchSteps,
    prepare_computing_thread,
    prepare_loading_thread,
)
from models.tokenizer import Vocabulary
from tests.unit.toys import (
    ToyDecoder,
    plain_beam_search,
    tiny_config,
    tiny_model,
    toy_images,
)

DECODERS = [
    {},
    {"attention": "dot-product"},
    {"attention": "cosine"},
    {"attention": "hard"},
    {"decoder": "nic"},
    {"decoder": "lrcn-factored"},
    {"decoder": "lrcn-unfactored"},
    {"decoder": "transformer", "layers": 2, "heads": 2},
]


def torch_runtime(**fields: Any) -> TorchRuntime:
    config = tiny_config(**fields)
    return TorchRuntime(tiny_model(config), config.preprocess, precision="float32")


def score_by_steps(
    decoder: StepDecoder[Any], features: Features, token_ids: npt.NDArray[np.int64]
) -> Scores:
    """What `Runtime.score_tokens` promises, a step at a time: token_ids (B, G, T)."""
    images, group, length = token_ids.shape
    rows = np.repeat(np.arange(images), group)
    state = decoder.init_state(features).select(rows)
    last = np.full_like(rows, Vocabulary.bos_id)
    logprobs = []
    alphas = []
    for time in range(length):
        output = decoder.step(last, state)
        last = token_ids[:, :, time].reshape(-1)
        logprobs.append(log_softmax(output.logits)[np.arange(len(rows)), last])
        alphas.append(output.alpha)
        state = output.state
    shape = (images, group, length)
    return np.stack(logprobs, 1).reshape(shape), np.stack(alphas, 1).reshape(*shape, -1)


# -- PyTorch's ----


@pytest.mark.parametrize("fields", DECODERS, ids=lambda fields: "-".join(map(str, fields.values())))
def test_score_tokens_any_decoder_equals_repeated_steps(fields: dict[str, Any]) -> None:
    runtime = torch_runtime(**fields)
    generator = torch.Generator().manual_seed(0)
    features = ImageFeatures(torch.randn(2, 196, 64, generator=generator))
    token_ids = np.random.default_rng(0).integers(2, 12, (2, 3, 5))  # eos, unk and words

    logprobs, alphas = runtime.score_tokens(features, token_ids)

    expected_logprobs, expected_alphas = score_by_steps(runtime.decoder, features, token_ids)
    assert (logprobs.shape, alphas.shape) == ((2, 3, 5), (2, 3, 5, 196))
    np.testing.assert_allclose(logprobs, expected_logprobs, atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(alphas, expected_alphas, atol=1e-5, rtol=1e-4)
    assert len(np.unique(logprobs)) > 15


def test_torch_runtime_is_a_runtime() -> None:
    runtime: Runtime[Any] = torch_runtime()

    assert runtime.grid == CellGrid(14, 14)
    assert runtime.precision == "float32"


def test_encode_gives_what_the_encoder_makes_of_normalized_pixels() -> None:
    config = tiny_config()
    network = tiny_model(config)
    runtime = TorchRuntime(network, config.preprocess, precision="float32")
    pixels = torch.randint(256, (2, 3, 56, 56), generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(torch.uint8)

    annotations = runtime.encode(pixels).annotations

    with torch.no_grad():
        expected = network(normalize(pixels, config.preprocess))
    assert annotations.dtype == torch.float32
    assert not annotations.requires_grad
    torch.testing.assert_close(annotations, expected, atol=1e-5, rtol=1e-5)


def fingerprint_of(
    network: CaptioningModel, precision: Precision = "float32", **fields: Any
) -> str:
    preprocess = tiny_config().preprocess.model_copy(update=fields)
    return TorchRuntime(network, preprocess, precision=precision).fingerprint()


def test_fingerprint_is_that_of_the_encoder_its_preprocessing_and_its_precision() -> None:
    config = tiny_config()
    network, twin, other = (tiny_model(config) for _ in range(3))
    with torch.no_grad():
        next(twin.decoder.parameters()).add_(1)
        next(other.encoder.parameters()).add_(1e-3)

    own = fingerprint_of(network)

    assert fingerprint_of(twin) == own
    others = {
        fingerprint_of(other),
        fingerprint_of(network, "bfloat16"),
        fingerprint_of(network, mean=(1.0, 2.0, 3.0)),
        fingerprint_of(network, std=(1.0, 2.0, 3.0)),
        fingerprint_of(network, resample="bilinear"),
    }
    assert len({own} | others) == 6


def test_fingerprint_minus_zero_is_zero() -> None:
    network, twin = (tiny_model(tiny_config()) for _ in range(2))
    with torch.no_grad():
        next(network.encoder.parameters()).zero_()
        next(twin.encoder.parameters()).zero_().neg_()

    assert fingerprint_of(network) == fingerprint_of(twin)


# -- any other ----


TOY_WORDS = ("a", "dog", "runs")
TOY_OPTIONS = DecodingOptions(beam_size=3, num_captions=3, max_length=4, length_penalty=1.0)


class ToyRuntime:
    """A runtime without a network: the sum of an image's pixels names its Markov chain."""

    precision = "float32"
    grid = CellGrid(1, len(Vocabulary(TOY_WORDS)))
    decoder = TorchSteps(ToyDecoder())

    def describe(self) -> RuntimeInfo:
        return RuntimeInfo("toy", "1", self.precision, 1, "it has no other")

    def encode(self, pixels: Any) -> ImageFeatures:
        seeds = pixels.reshape(len(pixels), -1).sum(axis=1).tolist()
        return ImageFeatures(torch.cat([toy_images(1, len(TOY_WORDS), seed) for seed in seeds]))

    def score_tokens(self, features: Features, token_ids: npt.NDArray[np.int64]) -> Scores:
        return score_by_steps(self.decoder, features, token_ids)

    def fingerprint(self) -> str:
        return "toy"


@pytest.fixture
def toy_captioner() -> NetworkCaptioner:
    info = ModelInfo("toy", "0" * 64, tiny_config("toy"), parameters=0, metrics={})
    return NetworkCaptioner(ToyRuntime(), Vocabulary(TOY_WORDS), info)


@pytest.fixture
def prepared_images() -> list[PreparedImage]:
    pixels = np.arange(4, dtype=np.uint8)
    return [PreparedImage(np.full((3, 1, 1), each), 30, 20, "PNG") for each in pixels]


def test_captioner_over_any_runtime_gives_the_captions_of_a_textbook_search(
    toy_captioner: NetworkCaptioner, prepared_images: list[PreparedImage]
) -> None:
    vocabulary = Vocabulary(TOY_WORDS)

    captions = toy_captioner.caption(prepared_images, TOY_OPTIONS)

    annotations = toy_captioner.encode(prepared_images).annotations
    for caption, image in zip(captions, annotations, strict=True):
        expected = plain_beam_search(image, TOY_OPTIONS)[: TOY_OPTIONS.num_captions]
        assert [each.text for each in caption.hypotheses] == [
            " ".join(vocabulary.decode(each.words)) for each in expected
        ]
        assert [each.avg_logprob for each in caption.hypotheses] == pytest.approx(
            [each.score for each in expected], abs=1e-4
        )
        assert caption.grid == ToyRuntime.grid
    assert len({caption.best.text for caption in captions}) > 1


def test_captioner_over_any_runtime_scores_and_describes_itself_by_it(
    toy_captioner: NetworkCaptioner, prepared_images: list[PreparedImage]
) -> None:
    features = toy_captioner.encode(prepared_images)
    ids = toy_captioner.token_ids(TOY_WORDS)

    scores = toy_captioner.score_tokens(features, [[ids]] * len(prepared_images))

    logprobs, _ = score_by_steps(
        ToyRuntime.decoder, features, np.array([[ids]] * len(prepared_images))
    )
    for (score,), expected in zip(scores, logprobs, strict=True):
        np.testing.assert_allclose(score.logprobs, expected[0], atol=1e-6)
    assert toy_captioner.encoding() == "toy"
    assert (toy_captioner.precision, toy_captioner.info.name) == ("float32", "toy")


def test_runtime_that_is_told_its_threads_computes_with_them_in_any_thread() -> None:
    here = torch.get_num_threads()
    config = tiny_config()
    runtime = TorchRuntime(
        tiny_model(config), config.preprocess, precision="float32", threads=here + 2
    )
    pixels = np.zeros((1, 3, 56, 56), dtype=np.uint8)
    with ThreadPoolExecutor(1) as computing:
        try:
            computing.submit(prepare_loading_thread).result()
            computing.submit(runtime.encode, pixels).result()

            assert computing.submit(torch.get_num_threads).result() == here + 2
            assert runtime.describe().threads == here + 2
        finally:
            torch.set_num_threads(here)


def test_thread_that_computes_keeps_its_number_of_threads_whatever_others_set_later() -> None:
    here = torch.get_num_threads()
    with ThreadPoolExecutor(1) as computing, ThreadPoolExecutor(1) as loading:
        try:
            computing.submit(prepare_computing_thread, 3, "float32").result()
            loading.submit(prepare_loading_thread).result()

            assert computing.submit(torch.get_num_threads).result() == 3
            assert loading.submit(torch.get_num_threads).result() == 1
        finally:
            torch.set_num_threads(here)
