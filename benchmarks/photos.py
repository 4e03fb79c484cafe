"""The photos that benchmarks caption: of a camera's sizes, and as uploads. Knows no model."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.soak.files import Upload, form_upload

__all__ = ["PHOTO_SIZE", "made_up_jpeg", "photo_uploads", "photos"]

PHOTO_SIZE = (500, 375)
"""Width and height in pixels, as most photos of Flickr8k and MS COCO have them."""

_IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
_NAMES = ("cat", "coffee", "astronaut", "rocket")
_CROPS = ((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.8, 0.8), (0.2, 0.2, 1.0, 1.0), (0.1, 0.0, 0.9, 0.9))
_QUALITY = 90


def photos() -> list[bytes]:
    """Give sixteen JPEGs of 500 x 375 pixels: four photos, and three crops of each."""
    sources = [Image.open(_IMAGES / f"{name}.jpg").convert("RGB") for name in _NAMES]
    return [_crop(source, crop) for crop in _CROPS for source in sources]


def photo_uploads() -> list[Upload]:
    """Give the photos as forms to post."""
    return [form_upload(f"photo {number}", data, 200) for number, data in enumerate(photos())]


def made_up_jpeg(width: int, height: int) -> bytes:
    """Give a JPEG about as hard to decode as a camera's: soft shapes under fine grain."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    grain = random.normal(0, 6, (height, width, 1))
    pixels = (np.asarray(coarse.resize((width, height))) + grain).clip(0, 255).astype(np.uint8)
    return _jpeg(Image.fromarray(pixels))


def _crop(image: Image.Image, crop: tuple[float, float, float, float]) -> bytes:
    """Cut out a part, given in fractions, and bring it to the common size."""
    left, top, right, bottom = crop
    width, height = image.size
    box = (left * width, top * height, right * width, bottom * height)
    return _jpeg(image.resize(PHOTO_SIZE, Image.Resampling.BICUBIC, box=box))


def _jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
