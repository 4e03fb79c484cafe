"""Training, evaluation and service read images through one decoder, with the same limits."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.core.settings import Settings
from app.engine.fake import FakeCaptioner
from models.config import PreprocessConfig
from models.errors import ImageError
from models.preprocessing import DecodeLimits, decode_image, prepare_image
from tests.corpus.case import Captioned
from tests.corpus.cases import CASES
from tests.corpus.outcomes import built
from tests.unit.repository import python_modules
from training.data.images import ImageReader

PACKAGES = ("app", "models", "training", "evaluation")
OTHER_READERS = ("Image.open", "cv2", "imageio", "torchvision.io", "skimage.io", "matplotlib.image")
PLUGINS = ("ImagePlugin", "ImageFile", "_pillow_heif", "pillow_heif")
PREPROCESS = PreprocessConfig(size_pixels=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SMALL = [case for case in CASES if not case.is_heavy]


def other_decoders(tree: ast.Module) -> Iterator[str]:
    """Find what opens an image file other than by models.preprocessing, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            names = [ast.unparse(node.func)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            is_reader = any(name == each or name.startswith(f"{each}.") for each in OTHER_READERS)
            if is_reader or any(plugin in name for plugin in PLUGINS):
                yield f"{node.lineno}: {name}"


def test_image_files_are_opened_by_the_library_s_decoder_alone() -> None:
    found = [
        f"{name}:{each}"
        for name, tree in python_modules(*PACKAGES)
        for each in other_decoders(tree)
    ]
    assert not [each for each in found if not each.startswith("models/")]
    assert not [each for each in found if "Image.open" in each]


@pytest.mark.parametrize(
    ("code", "finds"),
    [
        ("Image.open(path)", True),
        ("import cv2", True),
        ("from torchvision.io import read_image", True),
        ("from PIL import JpegImagePlugin", True),
        ("from PIL import Image, ImageDraw", False),
        ("from models.preprocessing import decode_image", False),
    ],
)
def test_other_decoders_are_found(code: str, finds: bool) -> None:
    assert bool(list(other_decoders(ast.parse(code)))) == finds


def test_limits_of_training_are_those_of_the_service_as_it_is_shipped() -> None:
    limits = DecodeLimits()
    shipped = {name: field.default for name, field in Settings.model_fields.items()}
    assert limits.max_pixels == shipped["max_pixels"]
    assert limits.max_jpeg_pixels == shipped["max_jpeg_pixels"]
    assert limits.min_side_pixels == shipped["min_side_pixels"]
    assert list(limits.formats) == [name.strip() for name in shipped["formats"].split(",")]


def test_training_sees_every_file_of_the_corpus_as_the_service_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read = ImageReader(PREPROCESS, max_unreadable=len(SMALL))
    for number, case in enumerate(SMALL):
        path = tmp_path / f"{number}"
        path.write_bytes(built(case))
        (pixels,) = read([path])
        if isinstance(case.outcome, Captioned):
            served = prepare_image(decode_image(built(case), side_pixels=32), PREPROCESS).pixels
            assert np.array_equal(pixels.numpy(), served), case.name
        else:
            with pytest.raises(ImageError) as refused:
                decode_image(built(case), side_pixels=32)
            assert f"{path}: {refused.value}" in caplog.text, case.name
            assert np.unique(pixels.numpy()).tolist() == [127], case.name  # gray stands for it
            caplog.clear()


def test_service_prepares_as_training_does() -> None:
    captioner = FakeCaptioner("any")
    data = built(SMALL[0])
    preprocess = captioner.info.config.preprocess
    (read,) = [prepare_image(decode_image(data, side_pixels=preprocess.size_pixels), preprocess)]
    np.testing.assert_array_equal(captioner.prepare(data, DecodeLimits()).pixels, read.pixels)
