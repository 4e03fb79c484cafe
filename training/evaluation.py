"""How good a model is: captions by the server's own search, scored by the field's metrics. Knows no training.

`evaluate_sets` takes the captioner that the service runs (same decoding of files, preprocessing, precision and beam
search), so that what is scored is what is served.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from models.captioner import TorchCaptioner
from models.captioning import CaptioningModel
from models.config import DecodingOptions
from models.decoding import decode
from models.errors import ImageError
from models.preprocessing import DecodeLimits, PreparedImage
from models.rendering import Panel, render_grid
from models.tokenizer import Vocabulary
from training.data import DataError, Photo
from training.metrics import evaluate_captions

__all__ = ["Evaluation", "caption_annotations", "caption_photos", "draw_sheets", "evaluate_sets"]

_BATCH_SIZE = 16
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured: `metrics` goes into the bundle, `captions` is what was said, photo by photo."""

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
    model: CaptioningModel, pixels: Tensor, annotations: Tensor, options: DecodingOptions, vocabulary: Vocabulary
) -> list[Image.Image]:
    """Draw pixels (B, 3, S, S) uint8 with the maps of their best captions, a panel a word."""
    rows, columns = model.encoder.grid_size
    first = model.encoder.offset_pixels / pixels.shape[-1]
    last = first + columns * model.encoder.stride / pixels.shape[-1]
    sheets = []
    for picture, result in zip(pixels, decode(model.decoder, annotations, options), strict=True):
        caption = result.captions[0]
        words = vocabulary.decode(caption.token_ids)
        panels = [
            Panel(word, alpha.numpy().reshape(rows, columns), math.exp(logprob), (first, first, last, last))
            for word, alpha, logprob in zip(words, caption.alphas, caption.logprobs[:-1].tolist(), strict=True)
        ]
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        sheets.append(render_grid(image, " ".join(words), panels))
    return sheets


def caption_photos(
    captioner: TorchCaptioner, photos: Sequence[Photo], options: DecodingOptions, advance: Callable[[int], Any]
) -> list[str]:
    """Caption photos as the server would; `advance` is told how many were done.

    Raises DataError with the name of a photo that cannot be read.
    """
    captions: list[str] = []
    for start in range(0, len(photos), _BATCH_SIZE):
        images = [_prepare(captioner, photo) for photo in photos[start : start + _BATCH_SIZE]]
        captions += [caption.hypotheses[0].text for caption in captioner.caption(images, options)]
        advance(len(images))
    return captions


def _prepare(captioner: TorchCaptioner, photo: Photo) -> PreparedImage:
    if photo.path is None:
        raise DataError(f"{photo.key} has captions and no picture; only a photo can be captioned.")
    try:
        return captioner.prepare(photo.path.read_bytes(), DecodeLimits())
    except (ImageError, OSError) as error:
        raise DataError(f"{photo.path} cannot be captioned: {error}") from error


def evaluate_sets(
    captioner: TorchCaptioner,
    sets: Mapping[str, Sequence[Photo]],
    options: DecodingOptions,
    advance: Callable[[int], Any],
    *,
    with_meteor: bool = True,
) -> Evaluation:
    """Caption and score every set by its name ("flickr8k test"); values are fractions, CIDEr-D as its authors scale it.

    METEOR is absent from the numbers where it could not run.
    """
    captions = {name: caption_photos(captioner, photos, options, advance) for name, photos in sets.items()}
    measured: dict[str, Any] = {}
    for name, photos in sets.items():
        references = [photo.captions for photo in photos]
        scores = evaluate_captions(references, captions[name], with_meteor=with_meteor)
        measured[name] = {
            "photos": len(photos),
            "references": sum(map(len, references)),
            **{metric: round(value, _DIGITS) for metric, value in scores.items()},
        }
    metrics = {
        "sets": measured,
        "decoding": options.model_dump(),
        "precision": captioner.precision,
        "tokeniser": "Penn Treebank, as coco-caption does",
    }
    return Evaluation(metrics, captions)
