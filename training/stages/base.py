"""What all stages share: their shape, what they work with, and a batch. Knows no loop.

B images, G captions of each, T words of the longest, L locations, D features, S pixels a side.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from models.captioner import NetworkCaptioner
from models.decoders.base import CaptionDecoder
from models.features import ImageFeatures, Tags
from models.network import CaptioningModel
from training.annotation import Annotator
from training.config import FinetuneStage, FrozenStage, SelfCriticalStage, StageBase
from training.data.batching import AttentionTargets
from training.data.examples import Example
from training.data.training_data import TrainingData
from training.losses import MovingBaseline
from training.objective import Terms
from training.optimizer import build_optimizer
from training.run_log import RunLog
from training.validation import Validator

__all__ = ["Batch", "ImageStage", "Stage", "StageContext"]

ConfigT = TypeVar("ConfigT", bound=StageBase, covariant=True)
ImageConfigT = TypeVar(
    "ImageConfigT", bound=FrozenStage | FinetuneStage | SelfCriticalStage, covariant=True
)


class Batch(NamedTuple):
    """What a step learns from.

    indices: of the B images among the stage's examples.
    ids (B, G, T + 2): their captions from bos to eos, with pad behind.
    features: of the images, where the encoder stands still. pixels: (B, 3, S, S) uint8, where it
        learns. Neither for language alone, which may have tags of the captions' own words.
    whole: the features as teachers see them, of which the stage may hide a part.
    """

    indices: list[int]
    ids: Tensor
    features: ImageFeatures | None = None
    pixels: Tensor | None = None
    attention_targets: AttentionTargets | None = None
    tags: Tags | None = None
    whole: ImageFeatures | None = None

    def to(self, device: torch.device) -> "Batch":
        """Move the tensors to a device."""
        targets = self.attention_targets
        return Batch(
            self.indices,
            self.ids.to(device),
            None if self.features is None else self.features.to(device),
            None if self.pixels is None else self.pixels.to(device),
            None if targets is None else targets.to(device),
            None if self.tags is None else Tags(self.tags.values.to(device)),
            None if self.whole is None else self.whole.to(device),
        )

    @property
    def rows(self) -> Tensor:
        """The captions' ids as (B * G, T + 2)."""
        return self.ids.flatten(0, 1)


@dataclass(frozen=True, slots=True)
class StageContext:
    """What the stages of a run work with.

    baseline: hard attention's, over all stages.
    teachers: by the names that stages give in `distil_from`.
    autocast: enters the run's precision.
    """

    data: TrainingData
    network: CaptioningModel
    annotator: Annotator
    baseline: MovingBaseline
    teachers: Mapping[str, CaptionDecoder]
    run_log: RunLog
    autocast: Callable[[], AbstractContextManager[None]]
    seed: int
    captions_per_image: int
    max_length: int


class Stage(ABC, Generic[ConfigT]):
    """One stretch of training: which examples, which batches, which loss."""

    def __init__(self, config: ConfigT, context: StageContext) -> None:
        """Choose the examples."""
        self.config = config
        self.context = context
        self.chosen = self.examples(context.data)

    def examples(self, data: TrainingData) -> tuple[Example, ...]:
        """Give what the stage learns from, weighed as it says."""
        return self.weigh(data.train)

    @abstractmethod
    def prepare(self, indices: list[int], generator: torch.Generator) -> Batch:
        """Make the batch of `indices` into `chosen`; runs in a second thread, ahead of `loss`."""

    @abstractmethod
    def loss(self, batch: Batch) -> Terms:
        """Compute the terms of a batch, which lies on the model's device."""

    def finish(self, best: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give what the stage leaves in the model, of its best weights."""
        return best

    def optimizer(self) -> torch.optim.Optimizer:
        """Give the optimizer of what the stage trains: the decoder."""
        return build_optimizer(
            self.context.network,
            learning_rate=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            freeze_words=self.config.freeze_words,
        )

    def validates_after(self, _epoch: int) -> bool:
        """Tell whether `validate` is due after epoch `_epoch`, counted from 0."""
        return True

    def validate(self, _validator: Validator, _captioner: NetworkCaptioner) -> dict[str, float]:
        """Score the dev sets; give nothing where the last weights count as the best."""
        return {}

    def gives_up(self, _bad_epochs: int) -> bool:
        """Tell whether to stop after so many validations without a better score."""
        return False

    def pick(self, indices: Sequence[int]) -> list[Example]:
        """Give the examples of a batch."""
        return [self.chosen[index] for index in indices]

    def weigh(self, examples: Sequence[Example]) -> tuple[Example, ...]:
        """Give examples the weights that the stage has for their sets."""
        weights = self.config.weights
        return tuple(
            replace(example, weight=weights.get(example.source, example.weight))
            for example in examples
        )


class ImageStage(Stage[ImageConfigT]):
    """A stage that sees images, and whose best weights are those of the best dev score."""

    def validates_after(self, epoch: int) -> bool:
        """Tell whether it is the last epoch, or one that `validate_every` asks for."""
        return (epoch + 1) % self.config.validate_every == 0 or epoch + 1 >= self.config.epochs

    def validate(self, validator: Validator, captioner: NetworkCaptioner) -> dict[str, float]:
        """Score the dev sets by CIDEr-D."""
        return validator.scores(captioner, {})

    def gives_up(self, bad_epochs: int) -> bool:
        """Tell whether `patience` is at its end."""
        return bad_epochs >= self.config.patience
