"""The bundle that is shipped: whole, ours, within its size, as good as it is said to be, the same in a batch and alone.

It is part of the repository: where it is missing, these tests fail.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
import skimage
import torch
from PIL import Image
from safetensors.torch import load_file

from models.captioner import TorchCaptioner, load_captioner
from models.preprocessing import DecodeLimits
from training.data import DatasetConfig, Photo, read_dataset

NAME = "soft-attention"
MOST_BYTES = 64_000_000
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")
DEV_PHOTOS = 20


@pytest.fixture(scope="module")
def weights(repository: Path) -> Path:
    return repository / "weights"


@pytest.fixture(scope="module")
def captioner(weights: Path) -> TorchCaptioner:
    """As the service loads it: verified against its sums, in the precision that this machine has."""
    return load_captioner(weights, NAME)


def caption(captioner: TorchCaptioner, photos: Sequence[bytes]) -> list[str]:
    """The best captions of a batch."""
    images = [captioner.prepare(data, DecodeLimits()) for data in photos]
    captions = captioner.caption(images, captioner.info.config.decoding)
    return [each.hypotheses[0].text for each in captions]


def example_photo(name: str) -> bytes:
    """A photo that scikit-image ships, as the file that it is."""
    return (Path(skimage.__file__).parent / "data" / name).read_bytes()


# -- the bundle -----------------------------------------------------------------------------------------------------


def test_shipped_bundle_is_complete_and_within_its_size(weights: Path) -> None:
    files = {path.name: path.stat().st_size for path in (weights / NAME).iterdir()}
    assert set(files) == {
        "model.safetensors",
        "config.json",
        "vocab.json",
        "metrics.json",
        "SHA256SUMS",
        "MODEL_CARD.md",
    }
    assert sum(files.values()) <= MOST_BYTES


def test_shipped_bundle_loads_as_the_model_that_its_folder_names(captioner: TorchCaptioner) -> None:
    info = captioner.info
    assert info.name == NAME
    assert info.config.decoding.beam_size > 1
    assert info.parameters > 1_000_000


def test_shipped_encoder_is_fine_tuned_throughout(captioner: TorchCaptioner, shared_encoders: Path) -> None:
    """Every learnt tensor of it differs from the pretrained one in half precision, which is how it is stored."""
    pretrained = load_file(shared_encoders / f"{captioner.info.config.encoder}.safetensors")
    shipped = load_file(Path(__file__).resolve().parents[2] / "weights" / NAME / "model.safetensors")
    prefix = "encoder.body."
    encoder = {name.removeprefix(prefix): tensor for name, tensor in shipped.items() if name.startswith(prefix)}
    assert encoder
    same = [name for name, tensor in encoder.items() if torch.equal(tensor.half(), pretrained[name].half())]
    assert not same


def test_shipped_metrics_have_every_metric_and_reach_their_floors(captioner: TorchCaptioner) -> None:
    sets = captioner.info.metrics["sets"]
    for name in ("flickr8k test", "everyday"):
        assert set(METRICS) <= set(sets[name])
    assert sets["flickr8k test"]["photos"] == 1000
    assert sets["everyday"]["photos"] == 300
    assert sets["flickr8k test"]["BLEU-4"] >= 0.23
    assert sets["flickr8k test"]["CIDEr-D"] >= 0.57
    assert sets["everyday"]["CIDEr-D"] >= 0.70


def test_shipped_metrics_were_measured_with_the_bundles_own_decoding(captioner: TorchCaptioner) -> None:
    assert captioner.info.metrics["decoding"] == captioner.info.config.decoding.model_dump()


# -- its captions ---------------------------------------------------------------------------------------------------


def test_shipped_model_names_the_cat(captioner: TorchCaptioner) -> None:
    (text,) = caption(captioner, [example_photo("chelsea.png")])
    assert {"cat", "kitten"} & set(text.split())


@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg"])
def test_shipped_model_everyday_photo_gives_a_sentence(captioner: TorchCaptioner, name: str) -> None:
    (text,) = caption(captioner, [example_photo(name)])
    assert 3 <= len(text.split()) <= captioner.info.config.decoding.max_length
    assert "<" not in text


def test_shipped_model_smallest_and_plain_pictures_give_a_sentence(captioner: TorchCaptioner) -> None:
    """Pictures with nothing in them are captioned too; what is said of them is anyone's guess."""
    files = []
    for size, colour in (((16, 16), "black"), ((2000, 16), "white"), ((300, 200), "red")):
        file = BytesIO()
        Image.new("RGB", size, colour).save(file, format="PNG")
        files.append(file.getvalue())
    for text in caption(captioner, files):
        assert text.split()
        assert "<" not in text


# -- batches --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dev_photos(shared_data: Path) -> list[bytes]:
    """The first photos of Flickr8k's dev split."""
    config = DatasetConfig(
        name="flickr8k", kind="flickr8k", root=shared_data / "flickr8k", split="dev", max_problems=10
    )
    photos: list[Photo] = read_dataset(config)[0][:DEV_PHOTOS]
    return [photo.path.read_bytes() for photo in photos if photo.path is not None]


def test_shipped_model_in_float32_batch_gives_what_single_photos_give(weights: Path, dev_photos: list[bytes]) -> None:
    exact = load_captioner(weights, NAME, precision="float32")
    assert caption(exact, dev_photos) == [text for photo in dev_photos for text in caption(exact, [photo])]


def test_shipped_model_as_served_batch_gives_nearly_what_single_photos_give(
    captioner: TorchCaptioner, dev_photos: list[bytes]
) -> None:
    """In bfloat16 the order of a sum depends on the batch: a caption that is a close call may come out differently."""
    batch = caption(captioner, dev_photos)
    single = [text for photo in dev_photos for text in caption(captioner, [photo])]
    same = sum(one == other for one, other in zip(batch, single, strict=True))
    assert len(batch) == DEV_PHOTOS
    assert same >= DEV_PHOTOS - 2
