"""The bundles that are shipped: whole, within their size, as good as they are said to be, in a
batch as alone.

They are part of the repository: where the default one is missing, these tests fail. The others are
whatever lies there.
"""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from safetensors.torch import load_file

from app.core.settings import DEFAULT_MODEL, Settings
from models.bundles.registry import list_models, load_model
from models.bundles.shared_tensors import SHARED_FOLDER, SharedTensors, shared_path
from models.caption import Caption
from models.captioner import NetworkCaptioner
from models.config import MapKind
from models.encoders.fused import SECOND_PREFIX
from models.loading import describe_captioner
from models.memory import total_bytes
from models.preprocessing import DecodeLimits
from models.tokenizer import Vocabulary
from training.data.datasets import CaptionedImage, DatasetConfig, read_dataset
from training.tagger_weights import read_tagger

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
NAMES = list_models(WEIGHTS)
MOST_BYTES = 160_000_000  # of everything in weights/
FILES = {
    "model.safetensors",
    "config.json",
    "vocab.json",
    "metrics.json",
    "SHA256SUMS",
    "MODEL_CARD.md",
}
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")
DEV_IMAGES = 20


@pytest.fixture(scope="module")
def captioner(shipped: Callable[..., NetworkCaptioner]) -> NetworkCaptioner:
    """The default model as the service loads it: verified against its sums, in the precision that
    this machine has."""
    return shipped(DEFAULT_MODEL)


def captions(captioner: NetworkCaptioner, files: Sequence[bytes]) -> list[Caption]:
    """A batch captioned by the model's own search."""
    images = [captioner.prepare(data, DecodeLimits()) for data in files]
    return captioner.caption(images, captioner.info.config.decoding)


def texts(captioner: NetworkCaptioner, files: Sequence[bytes]) -> list[str]:
    """The best captions of a batch."""
    return [each.best.text for each in captions(captioner, files)]


def example_image(name: str) -> bytes:
    """An image that scikit-image ships, as the file that it is."""
    return (Path(skimage.__file__).parent / "data" / name).read_bytes()


# -- the bundles ----


def test_default_model_is_shipped() -> None:
    assert DEFAULT_MODEL in NAMES


def test_weights_together_are_within_their_size() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_shipped_bundle_is_complete(name: str) -> None:
    files = {path.name for path in (WEIGHTS / name).iterdir()}
    assert files - {"reliability.svg"} == FILES
    assert ("reliability.svg" in files) == (
        "calibration" in describe_captioner(WEIGHTS, name).metrics
    )


@pytest.mark.parametrize("name", NAMES)
def test_shipped_metrics_have_the_test_sets_scores_and_the_card_shows_them(name: str) -> None:
    info = describe_captioner(WEIGHTS, name)
    card = (WEIGHTS / name / "MODEL_CARD.md").read_text(encoding="utf-8")
    test = info.metrics["sets"]["flickr8k test"]
    assert test["photos"] == 1000
    for metric in METRICS:
        assert f"| {100 * test[metric]:.1f} |" in card, metric
    assert info.metrics["decoding"] == info.config.decoding.model_dump()
    assert (info.config.calibration is None) == ("calibration" not in info.metrics)


def test_shipped_encoders_are_stored_once_and_shared_files_are_somebodys() -> None:
    shared = set((WEIGHTS / SHARED_FOLDER).glob("*.safetensors"))
    seen: dict[bytes, Path] = {}
    for path in (*shared, *(WEIGHTS / name / "model.safetensors" for name in NAMES)):
        tensors = load_file(path)
        encoder = b"".join(
            tensors[key].numpy().tobytes() for key in sorted(tensors) if key.startswith("encoder.")
        )
        assert not encoder or encoder not in seen, (
            f"{path} and {seen[encoder]} hold the same encoder"
        )
        seen[encoder] = path
    sums = [
        word
        for name in NAMES
        for word in (WEIGHTS / name / "SHA256SUMS").read_text(encoding="utf-8").split()
    ]
    assert {
        shared_path(WEIGHTS / DEFAULT_MODEL, Path(word).stem)
        for word in sums
        if word.startswith("../")
    } == shared


def test_shipped_models_all_fit_into_memory_side_by_side() -> None:
    needed = total_bytes(describe_captioner(WEIGHTS, name).memory for name in NAMES)
    assert needed <= Settings.model_fields["models_memory_bytes"].default


def test_default_models_encoder_is_fine_tuned_throughout_and_its_tagger_is_as_published(
    shared_encoders: Path,
) -> None:
    """In half precision, which is how both are stored."""
    checkpoint = load_model(WEIGHTS, DEFAULT_MODEL, SharedTensors())
    network = checkpoint.model
    began = load_file(shared_encoders / f"{checkpoint.config.encoder}.safetensors")
    for name, tensor in network.encoder.state_dict().items():
        assert not torch.equal(tensor.half(), began[name.removeprefix("body.")].half()), name

    assert network.tagger is not None
    published = read_tagger(shared_encoders)
    tagger = network.tagger.state_dict()
    assert tagger.keys() == published.keys()
    for name, tensor in tagger.items():
        assert torch.equal(tensor.half(), published[name].half()), name


def test_second_encoder_of_the_model_without_a_tagger_is_as_pretrained(
    shared_encoders: Path,
) -> None:
    checkpoint = load_model(WEIGHTS, "glimpse-grid", SharedTensors())
    network = checkpoint.model
    shipped = {
        name.removeprefix("body."): t.half() for name, t in network.encoder.state_dict().items()
    }
    first, second = checkpoint.config.encoder.split("+")
    fine_tuned, pretrained = (
        load_file(shared_encoders / f"{name}.safetensors") for name in (first, second)
    )

    same = {
        name
        for name in shipped
        if torch.equal(shipped[name], _published(name, fine_tuned, pretrained).half())
    }

    assert same == {name for name in shipped if name.startswith(SECOND_PREFIX)}
    assert len(same) > 90


def _published(
    name: str, first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]
) -> torch.Tensor:
    if name.startswith(SECOND_PREFIX):
        return second[name.removeprefix(SECOND_PREFIX)]
    return first[name]


def test_default_models_metrics_reach_their_floors(captioner: NetworkCaptioner) -> None:
    sets = captioner.info.metrics["sets"]
    for name in ("flickr8k test", "everyday"):
        assert set(METRICS) <= set(sets[name])
    assert sets["everyday"]["photos"] == 300
    assert sets["flickr8k test"]["BLEU-4"] >= 0.23
    assert sets["flickr8k test"]["CIDEr-D"] >= 0.57
    assert sets["everyday"]["CIDEr-D"] >= 0.70


# -- their captions ----


@pytest.mark.parametrize("name", NAMES)
def test_shipped_model_captions_the_cat_in_words_that_it_knows_with_maps_of_its_kind(
    shipped: Callable[..., NetworkCaptioner], name: str
) -> None:
    model = shipped(name)
    config = model.info.config
    assert config.name == name
    (caption,) = captions(model, [example_image("chelsea.png")])
    words = caption.best.words
    assert len(words) >= 3
    assert Vocabulary.unk_id not in model.token_ids([word.text for word in words])
    assert not any(word.text.startswith("<") for word in words)
    for word in words:
        assert word.alpha.shape == (caption.grid.rows, caption.grid.columns)
        assert word.alpha.min() >= 0
        assert word.alpha.sum() == pytest.approx(1, abs=1e-4)
        assert 0 <= word.confidence <= 1
        if config.decoder.maps is MapKind.UNIFORM:
            assert np.allclose(word.alpha, 1 / word.alpha.size)
        elif config.decoder.maps is MapKind.HARD:
            assert np.count_nonzero(word.alpha) == 1
        else:
            assert np.ptp(word.alpha) > 0


@pytest.mark.parametrize(
    ("photo", "names"),
    [
        ("chelsea.png", {"cat", "kitten"}),
        ("coffee.png", {"cup", "coffee", "mug"}),
        ("astronaut.png", {"man", "woman", "person", "astronaut"}),
    ],
)
def test_default_model_names_what_is_there(
    captioner: NetworkCaptioner, photo: str, names: set[str]
) -> None:
    (text,) = texts(captioner, [example_image(photo)])
    assert names & set(text.split())


@pytest.mark.parametrize("name", ["astronaut.png", "rocket.jpg"])
def test_default_model_everyday_image_gives_a_sentence(
    captioner: NetworkCaptioner, name: str
) -> None:
    (text,) = texts(captioner, [example_image(name)])
    assert 3 <= len(text.split()) <= captioner.info.config.decoding.max_length
    assert "<" not in text


def test_default_model_smallest_and_plain_images_give_a_sentence(
    captioner: NetworkCaptioner,
) -> None:
    """Images with nothing in them are captioned too; what is said of them is anyone's guess."""
    files = []
    for size, color in (((16, 16), "black"), ((2000, 16), "white"), ((300, 200), "red")):
        file = BytesIO()
        Image.new("RGB", size, color).save(file, format="PNG")
        files.append(file.getvalue())
    for text in texts(captioner, files):
        assert text.split()
        assert "<" not in text


# -- batches ----


@pytest.fixture(scope="module")
def dev_images(shared_data: Path) -> list[bytes]:
    """The first images of Flickr8k's dev split."""
    config = DatasetConfig(
        name="flickr8k",
        kind="flickr8k",
        root=shared_data / "flickr8k",
        split="dev",
        max_problems=10,
    )
    images: list[CaptionedImage] = read_dataset(config)[0][:DEV_IMAGES]
    return [image.path.read_bytes() for image in images if image.path is not None]


def test_default_model_in_float32_batch_gives_what_single_images_give(
    shipped: Callable[..., NetworkCaptioner], dev_images: list[bytes]
) -> None:
    exact = shipped(DEFAULT_MODEL, precision="float32")
    assert texts(exact, dev_images) == [
        text for image in dev_images for text in texts(exact, [image])
    ]


def test_default_model_as_served_batch_gives_nearly_what_single_images_give(
    captioner: NetworkCaptioner, dev_images: list[bytes]
) -> None:
    """In bfloat16 the order of a sum depends on the batch: a caption that is a close call may come
    out differently."""
    batch = texts(captioner, dev_images)
    single = [text for image in dev_images for text in texts(captioner, [image])]
    same = sum(one == other for one, other in zip(batch, single, strict=True))
    assert len(batch) == DEV_IMAGES
    assert same >= DEV_IMAGES - 2
