"""Every runtime captions alike: the shipped models in PyTorch and in OpenVINO."""

from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from app.core.settings import DEFAULT_MODEL
from evaluation.captioning import batches, caption_texts, prepare_image
from evaluation.metrics.cider import cider_d
from evaluation.metrics.texts import split_tokens
from models.captioner import NetworkCaptioner
from models.errors import CheckpointError
from models.loading import RuntimeName, load_captioner
from models.runtime.openvino import can_run
from training.data.datasets import CaptionedImage, DatasetConfig, read_dataset

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"
FEW, MANY = 8, 200


@cache
def loaded(name: str, runtime: RuntimeName) -> NetworkCaptioner:
    return load_captioner(WEIGHTS, name, precision="float32", runtime=runtime, threads=1)


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> list[CaptionedImage]:
    everyday = DatasetConfig(
        name="everyday",
        kind="coco",
        root=shared_data / "coco-sample",
        split="all",
        include_keys_file=ROOT / "training" / "configs" / "everyday-dev.txt",
        max_problems=10,
    )
    return list(islice(read_dataset(everyday)[0], MANY))


def captions(captioner: NetworkCaptioner, photos: list[CaptionedImage]) -> list[str]:
    texts = []
    for _, batch in batches(photos):
        features = captioner.encode([prepare_image(captioner, photo) for photo in batch])
        texts += caption_texts(captioner, features, captioner.info.config.decoding)
    return texts


def both(name: str, photos: list[CaptionedImage]) -> tuple[list[str], list[str]]:
    """The captions of a model in PyTorch and in OpenVINO."""
    first, second = loaded(name, "torch"), loaded(name, "openvino")
    assert (first.runtime.name, second.runtime.name) == ("torch", "openvino")
    return captions(first, photos), captions(second, photos)


def test_default_model_captions_alike_in_both_runtimes(photos: list[CaptionedImage]) -> None:
    """Where float32 rounds otherwise, two captions may trade places: rarely, and at no loss."""
    expected, found = both(DEFAULT_MODEL, photos[:FEW])
    assert sum(map(str.__eq__, expected, found)) >= FEW - 1
    assert len(set(expected)) > FEW // 2


@pytest.mark.parametrize("name", ["soft-attention", "soft-attention-dot-product", "hard-attention"])
def test_shipped_attentions_caption_alike_in_both_runtimes(
    name: str, photos: list[CaptionedImage]
) -> None:
    expected, found = both(name, photos[:FEW])
    assert sum(map(str.__eq__, expected, found)) >= FEW - 1


@pytest.mark.slow
def test_default_model_captions_200_photos_alike_and_scores_the_same(
    photos: list[CaptionedImage],
) -> None:
    expected, found = both(DEFAULT_MODEL, photos)
    differing = sum(map(str.__ne__, expected, found)) / MANY
    references = [[split_tokens(text) for text in photo.captions] for photo in photos]
    scores = [
        cider_d(references, [split_tokens(text) for text in texts]) for texts in (expected, found)
    ]
    change = scores[1].value / scores[0].value - 1
    assert differing <= 0.02, (differing, change)
    assert abs(change) <= 0.005, (differing, change)


def test_auto_takes_openvino_for_what_it_can_run_and_pytorch_for_the_rest() -> None:
    for name, expected in (("soft-attention", "openvino"), ("nic", "torch")):
        captioner = load_captioner(WEIGHTS, name, precision="float32", runtime="auto")
        assert captioner.runtime.name == expected
        assert can_run(captioner.info.config) == (expected == "openvino")


def test_openvino_asked_for_a_model_without_a_graph_is_refused_with_the_setting_to_change() -> None:
    with pytest.raises(CheckpointError, match=r"cannot run the model 'nic'.*GLIMPSE_RUNTIME"):
        load_captioner(WEIGHTS, "nic", runtime="openvino")
