"""Captions of images for whoever measures: encoded and searched for as the service does.

Everything goes through the captioner that the service runs (same decoding of files, preprocessing,
precision and beam search), so that what is scored is what is served. Knows no scores.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from models.array_features import Features
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.errors import ImageError
from models.features import ImageFeatures
from models.preprocessing import DecodeLimits, PreparedImage
from models.rendering import caption_panels, render_grid
from training.data.datasets import CaptionedImage, DataError

__all__ = [
    "Advance",
    "CachedEncoder",
    "Encode",
    "batches",
    "caption_images",
    "caption_texts",
    "caption_together",
    "draw_sheets",
    "group_by_encoding",
    "image_encoder",
    "image_paths",
    "no_progress",
    "prepare_image",
]

Advance = Callable[[int], Any]
"""Called with the number of images that have just been done."""

Encode = Callable[[Sequence[CaptionedImage]], Features]
"""Encodes images to features in float32; raises DataError for an unreadable image."""

_BATCH_SIZE = 16


def no_progress(_: int) -> None:
    """Ignore how many images are done."""


def batches(
    images: Sequence[CaptionedImage],
) -> Iterator[tuple[int, Sequence[CaptionedImage]]]:
    """Give images in batches as they are encoded together, each with the place of its first."""
    for start in range(0, len(images), _BATCH_SIZE):
        yield start, images[start : start + _BATCH_SIZE]


def caption_texts(
    captioner: NetworkCaptioner, features: Features, options: DecodingOptions
) -> list[str]:
    """Give the best caption of each image."""
    return [caption.best.text for caption in captioner.caption_features(features, options)]


def draw_sheets(
    captioner: NetworkCaptioner, pixels: Tensor, options: DecodingOptions
) -> list[Image.Image]:
    """Draw pixels (B, 3, S, S) uint8 with the maps of their best captions, a panel a word."""
    captions = captioner.caption_features(captioner.encode_pixels(pixels), options)
    sheets = []
    for image, caption in zip(pixels, captions, strict=True):
        drawn = Image.fromarray(image.permute(1, 2, 0).numpy())
        sheets.append(render_grid(drawn, caption.best.text, caption_panels(caption)))
    return sheets


def group_by_encoding(captioners: Sequence[NetworkCaptioner]) -> list[list[NetworkCaptioner]]:
    """Group captioners whose features are the same: equal weights, preprocessing, precision."""
    groups: dict[str, list[NetworkCaptioner]] = {}
    for captioner in captioners:
        groups.setdefault(captioner.encoding(), []).append(captioner)
    return list(groups.values())


def caption_images(
    captioner: NetworkCaptioner,
    images: Sequence[CaptionedImage],
    options: DecodingOptions,
    advance: Advance = no_progress,
) -> list[str]:
    """Caption images as the service does, in order.

    Raises DataError with the name of an image that cannot be read.
    """
    return caption_together([captioner], images, [options], advance)[0]


def caption_together(
    group: Sequence[NetworkCaptioner],
    images: Sequence[CaptionedImage],
    options: Sequence[DecodingOptions],
    advance: Advance = no_progress,
) -> list[list[str]]:
    """Caption images by each captioner of a group (`group_by_encoding`), each with its own options.

    Gives the captions of each captioner. A batch is encoded once for all captioners. Raises
    DataError as `caption_images` does.
    """
    captions: list[list[str]] = [[] for _ in group]
    for _, batch in batches(images):
        features = group[0].encode([prepare_image(group[0], image) for image in batch])
        for captioner, own_options, texts in zip(group, options, captions, strict=True):
            texts += caption_texts(captioner, features, own_options)
        advance(len(batch))
    return captions


def prepare_image(captioner: NetworkCaptioner, image: CaptionedImage) -> PreparedImage:
    """Prepare an image as the service does an upload.

    Raises DataError with the name of an image that cannot be read.
    """
    if image.path is None:
        raise DataError(f"{image.key} has captions and no picture; only a photo can be captioned.")
    try:
        return captioner.prepare(image.path.read_bytes(), DecodeLimits())
    except (ImageError, OSError) as error:
        raise DataError(f"{image.path} cannot be captioned: {error}") from error


def image_paths(images: Sequence[CaptionedImage]) -> list[Path]:
    """Give the images' files. Raises DataError for an image without one."""
    paths = []
    for image in images:
        if image.path is None:
            raise DataError(
                f"{image.key} has captions and no picture; its maps cannot be measured."
            )
        paths.append(image.path)
    return paths


def image_encoder(captioner: NetworkCaptioner) -> Encode:
    """Give the function that encodes images as this captioner does."""
    return partial(_encode_images, captioner)


def _encode_images(captioner: NetworkCaptioner, images: Sequence[CaptionedImage]) -> Features:
    return captioner.encode([prepare_image(captioner, image) for image in images])


class CachedEncoder:
    """Encodes each image once, however often it is asked for.

    For several captioners of one encoding. Images are told apart by their files, as keys are unique
    within one set only. Features are kept in half precision: 0.3 MB an image of 196 locations and
    768 features.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._features: dict[Path | None, ImageFeatures] = {}

    def __call__(self, images: Sequence[CaptionedImage]) -> ImageFeatures:
        """Give features in float32, rounded to half precision."""
        new = [image for image in images if image.path not in self._features]
        if new:
            features = ImageFeatures.of(self._encode(new)).to(torch.float16)
            paths = (image.path for image in new)
            self._features.update(zip(paths, features, strict=True))
        known = [self._features[image.path] for image in images]
        return ImageFeatures.join(known).to(torch.float32)
