"""How good a model is: captions by the server's own search, scored by the field's metrics. Knows no
training.

`evaluate_sets` takes the captioner that the service runs (same decoding of files, preprocessing,
precision and beam search), so that what is scored is what is served.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from evaluation.metrics.main_object import main_object_named
from evaluation.metrics.score import Score, meteor, score_captions
from models.captioner import TorchCaptioner
from models.config import DecodingOptions
from models.decoding import decode
from models.errors import ImageError
from models.network import CaptioningModel
from models.preprocessing import DecodeLimits, PreparedImage
from models.rendering import Panel, render_grid
from models.tokenizer import Vocabulary
from training.data.datasets import DataError, Photo
from training.data.images import fingerprint

__all__ = [
    "Evaluation",
    "caption_annotations",
    "caption_photos",
    "caption_together",
    "describe_metrics",
    "draw_sheets",
    "evaluate_sets",
    "group_by_encoder",
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


@torch.no_grad()
def caption_annotations(
    model: CaptioningModel, annotations: Tensor, options: DecodingOptions, vocabulary: Vocabulary
) -> list[str]:
    """Give the best caption of each picture of annotations (B, L, D)."""
    results = decode(model.decoder, annotations, options)
    return [" ".join(vocabulary.decode(result.captions[0].token_ids)) for result in results]


def draw_sheets(
    model: CaptioningModel,
    pixels: Tensor,
    annotations: Tensor,
    options: DecodingOptions,
    vocabulary: Vocabulary,
) -> list[Image.Image]:
    """Draw pixels (B, 3, S, S) uint8 with the maps of their best captions, a panel a word."""
    rows, columns, box = model.encoder.grid
    sheets = []
    for picture, result in zip(pixels, decode(model.decoder, annotations, options), strict=True):
        caption = result.captions[0]
        words = vocabulary.decode(caption.token_ids)
        panels = [
            Panel(word, alpha.numpy().reshape(rows, columns), math.exp(logprob), box)
            for word, alpha, logprob in zip(
                words, caption.alphas, caption.logprobs[:-1].tolist(), strict=True
            )
        ]
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        sheets.append(render_grid(image, " ".join(words), panels))
    return sheets


def group_by_encoder(captioners: Sequence[TorchCaptioner]) -> list[list[TorchCaptioner]]:
    """Group captioners whose annotations are the same: equal weights, preprocessing and precision.

    All of a group are given the first one's encoder, and their own, which is the same, is let go.
    """
    groups: dict[Any, list[TorchCaptioner]] = {}
    for captioner in captioners:
        config, model = captioner.info.config, captioner.model
        key = (config.encoder, config.preprocess, captioner.precision, fingerprint(model.encoder))
        group = groups.setdefault(key, [])
        group.append(captioner)
        model.encoder = group[0].model.encoder
    return list(groups.values())


def caption_photos(
    captioner: TorchCaptioner,
    photos: Sequence[Photo],
    options: DecodingOptions,
    advance: Callable[[int], Any],
) -> list[str]:
    """Caption photos as the service does, in order; `advance` is told how many are done.

    Raises DataError with the name of a photo that cannot be read.
    """
    return caption_together([captioner], photos, [options], advance)[0]


@torch.inference_mode()
def caption_together(
    group: Sequence[TorchCaptioner],
    photos: Sequence[Photo],
    options: Sequence[DecodingOptions],
    advance: Callable[[int], Any],
) -> list[list[str]]:
    """Caption photos by each captioner of a group (`group_by_encoder`), each with its own options:
    captions of each.

    A batch of photos is encoded once, captioned by all, and let go. Raises DataError as
    `caption_photos` does.
    """
    captions: list[list[str]] = [[] for _ in group]
    for start in range(0, len(photos), _BATCH_SIZE):
        images = [prepare_photo(group[0], photo) for photo in photos[start : start + _BATCH_SIZE]]
        annotations = group[0].annotate(
            torch.from_numpy(np.stack([image.pixels for image in images]))
        )
        for captioner, own_options, told in zip(group, options, captions, strict=True):
            told += caption_annotations(
                captioner.model, annotations, own_options, captioner.vocabulary
            )
        advance(len(images))
    return captions


def prepare_photo(captioner: TorchCaptioner, photo: Photo) -> PreparedImage:
    """Prepare a photo as the service does an upload; raise DataError with the name of one that
    cannot be read."""
    if photo.path is None:
        raise DataError(f"{photo.key} has captions and no picture; only a photo can be captioned.")
    try:
        return captioner.prepare(photo.path.read_bytes(), DecodeLimits())
    except (ImageError, OSError) as error:
        raise DataError(f"{photo.path} cannot be captioned: {error}") from error


def score_sets(
    photos: Mapping[Key, Sequence[Photo]],
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
    captioner: TorchCaptioner,
    options: DecodingOptions,
    sets: Mapping[str, Sequence[Photo]],
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
    captioner: TorchCaptioner,
    sets: Mapping[str, Sequence[Photo]],
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
