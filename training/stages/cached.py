"""What the frozen and the self-critical stage share: cached annotations. Knows no loss."""

from typing import TypeVar

import torch

from models.captioner import NetworkCaptioner
from models.errors import ConfigError
from training.config import FrozenStage, SelfCriticalStage
from training.data.annotation_cache import shown
from training.data.batching import pad_captions
from training.stages.base import Batch, ImageStage, StageContext
from training.validation import Validator

__all__ = ["CachedStage"]

CachedConfigT = TypeVar("CachedConfigT", bound=FrozenStage | SelfCriticalStage, covariant=True)


class CachedStage(ImageStage[CachedConfigT]):
    """A stage whose encoder does not change, so that annotations are computed once."""

    def __init__(self, config: CachedConfigT, context: StageContext) -> None:
        """Compute the annotations of all examples, or find them."""
        super().__init__(config, context)
        if config.hide_encoder and context.network.tagger is None:
            raise ConfigError("hide_encoder: without a tagger nothing would be left to see.")
        self.views = context.annotator.views(self.chosen, config.views, context.seed)

    def prepare(self, indices: list[int], generator: torch.Generator) -> Batch:
        """Show each image in one of its views."""
        views = self.views.draw(len(indices), generator)
        examples = shown(self.pick(indices), views)
        grid = self.context.network.encoder.grid if self.config.attention_loss_weight else None
        ids, targets = pad_captions(examples, self.context.captions_per_image, generator, grid)
        whole = self.views.read(indices, views)
        features = whole
        if self.config.hide_encoder:
            hidden = torch.rand(len(indices), generator=generator) < self.config.hide_encoder
            features = self.context.network.without_encoder(whole, hidden)
        return Batch(indices, ids, features, attention_targets=targets, whole=whole)

    def validate(self, validator: Validator, captioner: NetworkCaptioner) -> dict[str, float]:
        """Score the dev sets, whose annotations are cached too."""
        dev = self.context.data.dev
        caches = {name: self.context.annotator.cache(images) for name, images in dev.items()}
        return validator.scores(captioner, caches)
