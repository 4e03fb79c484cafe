"""The language stage: the decoder learns from captions alone. Knows no images."""

from dataclasses import replace

import torch

from training.config import LanguageStage
from training.data.batching import pad_captions
from training.data.examples import Example
from training.data.training_data import TrainingData
from training.objective import Objective, Terms
from training.stages.base import Batch, Stage

__all__ = ["Language"]


class Language(Stage[LanguageStage]):
    """Learns single captions of the text and the train sets."""

    def examples(self, data: TrainingData) -> tuple[Example, ...]:
        """Make an example of each caption, without its image."""
        single = []
        for example in data.text + data.train:
            for caption in example.captions:
                single.append(replace(example, path=None, captions=(caption,)))
        return self.weigh(single)

    def prepare(self, indices: list[int], generator: torch.Generator) -> Batch:
        """Pad the captions."""
        ids, _ = pad_captions(self.pick(indices), 1, generator)
        return Batch(indices, ids)

    def loss(self, batch: Batch) -> Terms:
        """Score each word after those before it."""
        objective = Objective(
            vocabulary=self.context.data.vocabulary,
            baseline=self.context.baseline,
            label_smoothing=self.config.label_smoothing,
            scheduled_sampling=self.config.scheduled_sampling,
        )
        with self.context.autocast():
            return objective(self.context.network.decoder, None, batch.rows)
