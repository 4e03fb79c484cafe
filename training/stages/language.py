"""The language stage: the decoder learns from captions alone. Knows no images."""

from dataclasses import replace

import torch

from models.decoders.show_attend_tell import AttentionDecoder
from models.errors import ConfigError
from training.config import LanguageStage
from training.data.batching import pad_captions
from training.data.examples import Example
from training.data.imagined_tags import ImaginedTags
from training.data.training_data import TrainingData
from training.objective import Objective, Terms
from training.stages.base import Batch, Stage, StageContext

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

    def __init__(self, config: LanguageStage, context: StageContext) -> None:
        """Learn which words name which tags, where the stage imagines some."""
        super().__init__(config, context)
        self.imagined = _imagined(context) if config.imagined_tags else None

    def prepare(self, indices: list[int], generator: torch.Generator) -> Batch:
        """Pad the captions, and imagine the tags of their words."""
        examples = self.pick(indices)
        ids, _ = pad_captions(examples, 1, generator)
        if self.imagined is None:
            return Batch(indices, ids)
        captions = [example.captions[0] for example in examples]
        return Batch(indices, ids, tags=self.imagined.draw(captions, generator))

    def loss(self, batch: Batch) -> Terms:
        """Score each word after those before it."""
        objective = Objective(
            vocabulary=self.context.data.vocabulary,
            baseline=self.context.baseline,
            label_smoothing=self.config.label_smoothing,
            scheduled_sampling=self.config.scheduled_sampling,
        )
        with self.context.autocast():
            return objective(self.context.network.decoder, None, batch.rows, tags=batch.tags)


def _imagined(context: StageContext) -> ImaginedTags:
    """Imagine the tags whose words the decoder was told."""
    decoder = context.network.decoder
    if not isinstance(decoder, AttentionDecoder) or decoder.tags is None:
        raise ConfigError("imagined_tags: this decoder attends to no tags.")
    return ImaginedTags(decoder.tags.class_words.tolist())
