"""What a model's tags are worth: its captions without objects, without concepts, without copying.

One set of weights; what is left out is left out when captioning, and nothing is trained anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import torch

from evaluation.captioning import Advance, CachedEncoder, batches, caption_texts
from evaluation.metrics.score import Score
from evaluation.scoring import score_sets
from models.bundles.checkpoint import Checkpoint
from models.captioner import NetworkCaptioner
from models.errors import ConfigError
from models.features import ImageFeatures, Tags
from models.tagging.classes import FIRST_CONCEPT
from training.data.datasets import CaptionedImage

__all__ = ["VARIANTS", "Ablated", "Variant", "caption_variant", "hide_tags", "without_copying"]

Sets = Mapping[str, Sequence[CaptionedImage]]


@dataclass(frozen=True, slots=True)
class Variant:
    """What a model is left: which tags, and whether it may copy their words."""

    name: str
    objects: bool = True
    concepts: bool = True
    copying: bool = True


VARIANTS = (
    Variant("grid alone", objects=False, concepts=False),
    Variant("with objects", concepts=False),
    Variant("with concepts", objects=False),
    Variant("with both"),
    Variant("with both, without copying", copying=False),
)


@dataclass(frozen=True, slots=True)
class Ablated:
    """What came of a variant: its scores on each set, and the median milliseconds of a search."""

    scores: dict[str, list[Score]]
    search_milliseconds: float


def hide_tags(features: ImageFeatures, variant: Variant) -> ImageFeatures:
    """Mask the tags that a variant is not left; annotations stay.

    Raises ConfigError for a model without tags.
    """
    if features.tags is None:
        raise ConfigError("The model looks for no objects and concepts: there is nothing to hide.")
    is_concept = features.tags.classes >= FIRST_CONCEPT  # (B, W)
    hidden = torch.where(is_concept, not variant.concepts, not variant.objects)
    values = features.tags.values.masked_fill(hidden.unsqueeze(2), 0.0)
    return replace(features, tags=Tags(values))


def without_copying(checkpoint: Checkpoint) -> Checkpoint:
    """Let no tag add to the logit of its word, in place. Raises ConfigError for other models."""
    gains = dict(checkpoint.model.named_parameters()).get("decoder.tags.gain")
    if gains is None:
        name = checkpoint.config.name
        raise ConfigError(f"The model {name!r} attends to no tags: it copies nothing.")
    gains.zero_()
    return checkpoint


def caption_variant(
    captioner: NetworkCaptioner,
    variant: Variant,
    sets: Sets,
    encode: CachedEncoder,
    advance: Advance,
) -> Ablated:
    """Caption every set with what a variant is left, and score the captions.

    captioner: one that copies or does not, as the variant says. Raises ConfigError.
    """
    captions: dict[str, list[str]] = {}
    seconds: list[float] = []
    for name, images in sets.items():
        captions[name] = []
        for _, batch in batches(images):
            features = hide_tags(encode(batch), variant)
            start = perf_counter()
            captions[name] += caption_texts(captioner, features, captioner.info.config.decoding)
            seconds.append((perf_counter() - start) / len(batch))
            advance(len(batch))
    scores = score_sets(sets, captions, with_meteor=False)
    return Ablated(scores, 1000 * median(seconds))
