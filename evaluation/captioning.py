"""How good a model is: captions by the server's own search, scored by the field's metrics. Knows no
training.

`evaluate_sets` takes the captioner that the service runs (same decoding of files, preprocessing,
precision and beam search), so that what is scored is what is served.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image
from torch import Tensor

from evaluation.metrics.main_object import main_object_named
from evaluation.metrics.score import Score, meteor, score_captions
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.errors import ImageError
from models.preprocessing import DecodeLimits, PreparedImage
from models.rendering import caption_panels, render_grid
from training.data.datasets import CaptionedImage, DataError

__all__ = [
    "Evaluation",
    "caption_photos",
    "caption_texts",
    "caption_together",
    "describe_metrics",
    "draw_sheets",
    "evaluate_sets",
    "group_by_encoding",
    "prepare_photo",
    "score_sets",
]

Key = TypeVar("Key")
_BATCH_SIZE = 16
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured: `metrics` goes into the bundle, `captions` is what was said, photo by
    photo."""

    metrics: dict[str, Any]
    captions: dict[str, list[str]]


def caption_texts(
    captioner: NetworkCaptioner, annotations: Tensor, options: DecodingOptions
) -> list[str]:
    """Give the best caption of each image of annotations (B, L, D)."""
    return [caption.best.text for caption in captioner.caption_annotations(annotations, options)]


def draw_sheets(
    captioner: NetworkCaptioner, pixels: Tensor, options: DecodingOptions
) -> list[Image.Image]:
    """Draw pixels (B, 3, S, S) uint8 with the maps of their best captions, a panel a word."""
    captions = captioner.caption_annotations(captioner.encode_pixels(pixels), options)
    sheets = []
    for image, caption in zip(pixels, captions, strict=True):
        drawn = Image.fromarray(image.permute(1, 2, 0).numpy())
        sheets.append(render_grid(drawn, caption.best.text, caption_panels(caption)))
    return sheets


def group_by_encoding(captioners: Sequence[NetworkCaptioner]) -> list[list[NetworkCaptioner]]:
    """Group captioners whose annotations are the same: equal weights, preprocessing, precision."""
    groups: dict[str, list[NetworkCaptioner]] = {}
    for captioner in captioners:
        groups.setdefault(captioner.encoding(), []).append(captioner)
    return list(groups.values())


def caption_photos(
    captioner: NetworkCaptioner,
    photos: Sequence[CaptionedImage],
    options: DecodingOptions,
    advance: Callable[[int], Any],
) -> list[str]:
    """Caption photos as the service does, in order; `advance` is told how many are done.

    Raises DataError with the name of a photo that cannot be read.
    """
    return caption_together([captioner], photos, [options], advance)[0]


def caption_together(
    group: Sequence[NetworkCaptioner],
    photos: Sequence[CaptionedImage],
    options: Sequence[DecodingOptions],
    advance: Callable[[int], Any],
) -> list[list[str]]:
    """Caption photos by each captioner of a group (`group_by_encoding`), each with its own options:
    captions of each.

    A batch of photos is encoded once, captioned by all, and let go. Raises DataError as
    `caption_photos` does.
    """
    captions: list[list[str]] = [[] for _ in group]
    for start in range(0, len(photos), _BATCH_SIZE):
        images = [prepare_photo(group[0], photo) for photo in photos[start : start + _BATCH_SIZE]]
        annotations = group[0].encode(images)
        for captioner, own_options, told in zip(group, options, captions, strict=True):
            told += caption_texts(captioner, annotations, own_options)
        advance(len(images))
    return captions


def prepare_photo(captioner: NetworkCaptioner, photo: CaptionedImage) -> PreparedImage:
    """Prepare a photo as the service does an upload; raise DataError with the name of one that
    cannot be read."""
    if photo.path is None:
        raise DataError(f"{photo.key} has captions and no picture; only a photo can be captioned.")
    try:
        return captioner.prepare(photo.path.read_bytes(), DecodeLimits())
    except (ImageError, OSError) as error:
        raise DataError(f"{photo.path} cannot be captioned: {error}") from error


def score_sets(
    photos: Mapping[Key, Sequence[CaptionedImage]],
    captions: Mapping[Key, Sequence[str]],
    *,
    with_meteor: bool = True,
) -> dict[Key, list[Score]]:
    """Score the captions of every set of photos, METEOR last where it could run.

    The share that names the main object is absent where no photo of the set has one.
    """
    references = {key: [photo.captions for photo in photos[key]] for key in captions}
    scores = {
        key: score_captions(references[key], texts, with_meteor=False)
        for key, texts in captions.items()
    }
    flat = [
        (texts, text)
        for key in captions
        for texts, text in zip(references[key], captions[key], strict=True)
    ]
    whole = (
        meteor(*zip(*flat, strict=True)) if with_meteor else None
    )  # all at once: its program starts slowly
    start = 0
    for key, texts in captions.items():
        named = main_object_named(references[key], texts)
        scores[key] += [named] if not math.isnan(named.value) else []
        scores[key] += [whole.part(slice(start, start + len(texts)))] if whole is not None else []
        start += len(texts)
    return scores


def describe_metrics(
    captioner: NetworkCaptioner,
    options: DecodingOptions,
    sets: Mapping[str, Sequence[CaptionedImage]],
    scores: Mapping[str, Sequence[Score]],
) -> dict[str, Any]:
    """Say what was measured, and how, as the bundle's metrics.json keeps it."""
    measured = {
        name: {
            "photos": len(sets[name]),
            "references": sum(len(photo.captions) for photo in sets[name]),
            **{score.name: round(score.value, _DIGITS) for score in each},
        }
        for name, each in scores.items()
    }
    return {
        "sets": measured,
        "decoding": options.model_dump(),
        "precision": captioner.precision,
        "tokeniser": "Penn Treebank, as coco-caption does",
    }


def evaluate_sets(
    captioner: NetworkCaptioner,
    sets: Mapping[str, Sequence[CaptionedImage]],
    options: DecodingOptions,
    advance: Callable[[int], Any],
    *,
    with_meteor: bool = True,
) -> Evaluation:
    """Caption and score every set by its name ("flickr8k test"); values are fractions, CIDEr-D as
    its authors scale it.

    METEOR is absent from the numbers where it could not run.
    """
    captions = {
        name: caption_photos(captioner, photos, options, advance) for name, photos in sets.items()
    }
    scores = score_sets(sets, captions, with_meteor=with_meteor)
    return Evaluation(describe_metrics(captioner, options, sets, scores), captions)
