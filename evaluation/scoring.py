"""How good captions are: every metric over every set of images. Knows no Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from evaluation.captioning import Advance, caption_images, no_progress
from evaluation.metrics.bleu import bleu
from evaluation.metrics.cider import cider_d
from evaluation.metrics.echoes import echo_share
from evaluation.metrics.main_object import main_object_named
from evaluation.metrics.meteor import meteor
from evaluation.metrics.rouge import rouge_l
from evaluation.metrics.score import Score
from evaluation.metrics.texts import Text, check_texts, split_tokens
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from training.data.datasets import CaptionedImage

__all__ = ["Evaluation", "describe_scores", "evaluate_sets", "score_captions", "score_sets"]

Key = TypeVar("Key")
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A captioner evaluated on several sets.

    metrics: what the bundle's metrics.json keeps. captions: of each set, those of its images.
    """

    metrics: dict[str, Any]
    captions: dict[str, list[str]]


def evaluate_sets(
    captioner: NetworkCaptioner,
    sets: Mapping[str, Sequence[CaptionedImage]],
    options: DecodingOptions,
    advance: Advance = no_progress,
    *,
    with_meteor: bool = True,
) -> Evaluation:
    """Caption and score every set by its name ("flickr8k test").

    Values are fractions, CIDEr-D as its authors scale it. METEOR is absent where it cannot run.
    Raises DataError with the name of an image that cannot be read.
    """
    captions = {
        name: caption_images(captioner, images, options, advance) for name, images in sets.items()
    }
    scores = score_sets(sets, captions, with_meteor=with_meteor)
    return Evaluation(describe_scores(captioner, options, sets, scores), captions)


def score_captions(
    references: Sequence[Sequence[Text]], hypotheses: Sequence[Text], *, with_meteor: bool
) -> list[Score]:
    """Score BLEU, ROUGE-L, CIDEr-D and METEOR, each with its value for every image.

    METEOR is absent where it cannot run or is not wanted.
    """
    check_texts(references, hypotheses)
    tokenized = [[split_tokens(text) for text in texts] for texts in references]
    answers = [split_tokens(text) for text in hypotheses]
    scores = [*bleu(tokenized, answers), rouge_l(tokenized, answers), cider_d(tokenized, answers)]
    last = meteor(tokenized, answers) if with_meteor else None
    return [*scores, last] if last else scores


def score_sets(
    images: Mapping[Key, Sequence[CaptionedImage]],
    captions: Mapping[Key, Sequence[str]],
    *,
    with_meteor: bool = True,
) -> dict[Key, list[Score]]:
    """Score the captions of every set of images, echoes among them; METEOR last where it can run.

    The share that names the main object is absent where no image of the set has one.
    """
    references = {key: [image.captions for image in images[key]] for key in captions}
    scores = {}
    for key, texts in captions.items():
        scores[key] = score_captions(references[key], texts, with_meteor=False)
        named = main_object_named(references[key], texts)
        if not math.isnan(named.value):
            scores[key].append(named)
        scores[key].append(echo_share(texts))
    if with_meteor:
        for key, score in _score_meteor(references, captions).items():
            scores[key].append(score)
    return scores


def _score_meteor(
    references: Mapping[Key, Sequence[Sequence[str]]], captions: Mapping[Key, Sequence[str]]
) -> dict[Key, Score]:
    """Score all sets by one start of the program, which is slow; {} where it cannot run."""
    all_references: list[Sequence[str]] = []
    all_captions: list[str] = []
    for key, texts in captions.items():
        all_references += references[key]
        all_captions += texts
    whole = meteor(all_references, all_captions)
    if whole is None:
        return {}
    scores = {}
    start = 0
    for key, texts in captions.items():
        scores[key] = whole.part(slice(start, start + len(texts)))
        start += len(texts)
    return scores


def describe_scores(
    captioner: NetworkCaptioner,
    options: DecodingOptions,
    sets: Mapping[str, Sequence[CaptionedImage]],
    scores: Mapping[str, Sequence[Score]],
) -> dict[str, Any]:
    """Say what was measured, and how, as the bundle's metrics.json keeps it."""
    measured = {}
    for name, each in scores.items():
        measured[name] = {
            "photos": len(sets[name]),
            "references": sum(len(image.captions) for image in sets[name]),
            **{score.name: round(score.value, _DIGITS) for score in each},
        }
    return {
        "sets": measured,
        "decoding": options.model_dump(),
        "precision": captioner.precision,
        "tokeniser": "Penn Treebank, as coco-caption does",
    }
