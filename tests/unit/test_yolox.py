"""The detector: equal to its publisher's file on photos, and its boxes where the objects are."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.detection.boxes import SIZE_PIXELS, Detection, find_objects, suppress_overlaps
from models.detection.yolox import YOLOXNano, fit_into_square
from models.errors import ConfigError
from training.tagger_weights import read_yolox_nano

PHOTOS = ("cat", "coffee", "astronaut", "rocket")
PERSON, CAT, CUP = 0, 15, 41  # the order of COCO's classes


@pytest.fixture(scope="module")
def onnx_file(shared_encoders: Path) -> Path:
    return shared_encoders / "yolox_nano.onnx"


@pytest.fixture(scope="module")
def network(onnx_file: Path) -> YOLOXNano:
    return read_yolox_nano(onnx_file)


@pytest.fixture(scope="module")
def photos(repository: Path) -> dict[str, Image.Image]:
    folder = repository / "docs" / "images"
    return {name: Image.open(folder / f"{name}.jpg").convert("RGB") for name in PHOTOS}


def squeezed(photo: Image.Image, side: int = 448) -> Tensor:
    """What the service makes of a photo: (3, S, S)."""
    pixels = np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


@torch.inference_mode()
def detected(network: YOLOXNano, photos: list[Image.Image]) -> list[list[Detection]]:
    squares = [fit_into_square(squeezed(photo), *photo.size, SIZE_PIXELS) for photo in photos]
    return find_objects(
        network(torch.stack(squares)).numpy(),
        [photo.size for photo in photos],
        min_score=0.25,
        max_overlap=0.45,
        max_objects=16,
    )


@torch.inference_mode()
def test_yolox_nano_real_photos_equal_the_onnx_file(
    network: YOLOXNano, onnx_file: Path, photos: dict[str, Image.Image]
) -> None:
    session = onnxruntime.InferenceSession(onnx_file)
    for photo in photos.values():
        square = fit_into_square(squeezed(photo), *photo.size, SIZE_PIXELS)[None]

        scores = network(square).numpy()

        (expected,) = session.run(None, {"images": square.numpy()})
        assert np.abs(scores - expected).max() < 1e-3


def test_find_objects_known_photos_name_and_place_what_they_show(
    network: YOLOXNano, photos: dict[str, Image.Image]
) -> None:
    cat, coffee, astronaut, _ = detected(network, list(photos.values()))

    assert cat[0].category == CAT
    assert astronaut[0].category == PERSON
    cup = coffee[0]
    assert cup.category == CUP
    left, top, right, bottom = cup.box
    assert left == pytest.approx(0.27, abs=0.05)
    assert top == pytest.approx(0.04, abs=0.05)
    assert right == pytest.approx(0.71, abs=0.05)
    assert bottom == pytest.approx(0.74, abs=0.05)


def test_find_objects_squeezed_batch_equals_each_photo_alone(
    network: YOLOXNano, photos: dict[str, Image.Image]
) -> None:
    together = detected(network, list(photos.values()))

    for photo, found in zip(photos.values(), together, strict=True):
        (alone,) = detected(network, [photo])
        assert [each.category for each in alone] == [each.category for each in found]
        for one, other in zip(alone, found, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-3)


def test_find_objects_nothing_sure_enough_finds_nothing(network: YOLOXNano) -> None:
    gray = Image.new("RGB", (320, 200), (114, 114, 114))

    assert detected(network, [gray]) == [[]]


def test_fit_into_square_tall_image_keeps_its_shape_at_the_left() -> None:
    image = torch.full((3, 448, 448), 255, dtype=torch.uint8)

    square = fit_into_square(image, 100, 400, SIZE_PIXELS)

    assert square.shape == (3, SIZE_PIXELS, SIZE_PIXELS)
    assert torch.allclose(square[:, :, :104], torch.tensor(255.0))
    assert torch.all(square[:, :, 104:] == 114)


def test_suppress_overlaps_drops_the_same_class_alone() -> None:
    box = [0.0, 0.0, 10.0, 10.0]
    nearly = [1.0, 0.0, 10.0, 10.0]
    far = [20.0, 20.0, 30.0, 30.0]
    boxes = np.array([box, nearly, nearly, far])
    categories = np.array([1, 1, 2, 1])

    assert suppress_overlaps(boxes, categories, 0.5) == [0, 2, 3]


def test_suppress_overlaps_a_box_that_went_drops_no_other() -> None:
    boxes = np.array([[0.0, 0.0, 10.0, 1.0], [3.0, 0.0, 13.0, 1.0], [6.0, 0.0, 16.0, 1.0]])

    assert suppress_overlaps(boxes, np.array([0, 0, 0]), 0.5) == [0, 2]


@pytest.mark.parametrize("content", [None, b"no ONNX file", b""])
def test_read_yolox_nano_no_such_network_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "yolox_nano.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"yolox_nano\.onnx"):
        read_yolox_nano(path)
