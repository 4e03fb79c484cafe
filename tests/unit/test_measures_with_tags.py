"""What is measured of maps that lie on cells and on tags: as a plain recomputation says."""

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation.captioning import CachedEncoder, image_encoder
from evaluation.measures.deletion import gray_out, measure_deletion
from evaluation.measures.grounding import measure_correctness
from models.caption import ModelInfo
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.features import ImageFeatures
from models.geometry import Box
from models.preprocessing import DecodeLimits
from models.runtime.torch import TorchRuntime
from models.tokenizer import Vocabulary
from tests.unit.seeing_toys import KNOWN, photo_file, seeing_config, seeing_model
from tests.unit.test_runtime import score_by_steps
from training.data.datasets import CaptionedImage
from training.data.flickr30k_entities import GroundedCaption, Phrase

CONFIG = seeing_config(decoding=DecodingOptions(beam_size=2, max_length=2))
CAPTION = GroundedCaption(("a", "red", "cup"), (Phrase(0, 3, (Box(0.25, 0.0, 0.75, 0.75),)),))


@pytest.fixture(scope="module")
def runtime(tagger_tensors: dict[str, Tensor]) -> TorchRuntime:
    network = seeing_model(CONFIG, tagger_tensors)
    torch.nn.init.constant_(network.get_parameter("decoder.tags.none.bias"), -1.0)
    return TorchRuntime(network, CONFIG.preprocess, precision="float32")


@pytest.fixture(scope="module")
def captioner(runtime: TorchRuntime) -> NetworkCaptioner:
    info = ModelInfo("eyes", "0" * 64, CONFIG, parameters=0, metrics={})
    return NetworkCaptioner(runtime, Vocabulary(KNOWN), info)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[CaptionedImage]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{name}.png" for name in ("coffee", "chelsea")]
    for path in paths:
        path.write_bytes(photo_file(path.stem, (300, 200)))
    return [CaptionedImage(path.name, path, ()) for path in paths]


@pytest.fixture(scope="module")
def encode(captioner: NetworkCaptioner) -> CachedEncoder:
    return CachedEncoder(image_encoder(captioner))


def logprobs(runtime: TorchRuntime, features: ImageFeatures, words: list[str]) -> Tensor:
    """Log-probabilities (T,) of a caption on one image, read step by step."""
    ids = np.array([[Vocabulary(KNOWN).ids(words)]])
    return torch.from_numpy(score_by_steps(runtime.decoder, features, ids)[0][0, 0])


def test_cached_encoder_gives_each_image_its_own_tags(
    encode: CachedEncoder, captioner: NetworkCaptioner, images: list[CaptionedImage]
) -> None:
    whole = encode(images)

    turned = encode(images[::-1])

    assert whole.tags is not None
    assert turned.tags is not None
    assert whole.tags.present.any(dim=1).all()
    assert not torch.equal(whole.tags.classes[0], whole.tags.classes[1])
    assert torch.equal(turned.tags.values, whole.tags.values.flip(0))
    alone = image_encoder(captioner)(images[:1])
    assert alone.tags is not None
    np.testing.assert_allclose(whole.tags.values[:1], alone.tags.values, atol=1e-2, rtol=1e-2)


def test_deletion_looks_at_the_grayed_image_anew_for_objects_too(
    captioner: NetworkCaptioner, runtime: TorchRuntime, images: list[CaptionedImage]
) -> None:
    measured = measure_deletion(captioner, images[:1], every=1)

    assert images[0].path is not None
    pixels = torch.from_numpy(captioner.prepare(images[0].path.read_bytes(), DecodeLimits()).pixels)
    features = runtime.encode(pixels.unsqueeze(0))
    (caption,) = captioner.caption_features(features, CONFIG.decoding)
    words = [word.text for word in caption.best.words]
    drop = measured.drops[0]
    position = words.index(drop.word)
    alpha = torch.from_numpy(caption.best.words[position].alpha).flatten()
    cells = alpha.argsort(descending=True)[: measured.cells]
    grayed = gray_out(pixels, cells, captioner.grid, CONFIG.preprocess.mean)
    deleted = runtime.encode(grayed.unsqueeze(0))
    before = logprobs(runtime, features, words)[position]
    after = logprobs(runtime, deleted, words)[position]
    assert drop.logprob == pytest.approx(float(before), abs=1e-3)
    assert drop.highest == pytest.approx(float(before - after), abs=1e-3)
    assert abs(drop.highest) > 1e-3
    assert features.tags is not None
    assert deleted.tags is not None
    assert not torch.equal(deleted.tags.values, features.tags.values)


def test_correctness_is_of_maps_that_lie_on_tags_too(
    captioner: NetworkCaptioner,
    runtime: TorchRuntime,
    images: list[CaptionedImage],
    encode: CachedEncoder,
) -> None:
    grounding = {image.key: (CAPTION,) for image in images}

    measured = measure_correctness(captioner, images, grounding, encode=encode)

    features = encode(images)
    ids = np.array([[Vocabulary(KNOWN).ids(CAPTION.tokens)]] * 2)
    _, alphas = score_by_steps(runtime.decoder, features, ids)
    _, cells = score_by_steps(runtime.decoder, ImageFeatures(features.annotations), ids)
    inside = captioner.grid.coverage(CAPTION.phrases[0].boxes)
    for phrase, maps in zip(measured.phrases, alphas, strict=True):
        assert phrase.mass == pytest.approx(float((maps[0] @ inside).mean()), abs=1e-4)
    assert np.abs(alphas - cells).max() > 1e-3  # the tags have their share of the maps
