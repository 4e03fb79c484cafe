"""The finetune stage: encoder and decoder learn together, from augmented images."""

import torch
from torch import Tensor

from training.config import FinetuneStage
from training.data.augmentation import augment
from training.data.batching import pad_captions
from training.objective import Objective, Terms
from training.optimizer import build_optimizer
from training.stages.base import Batch, ImageStage

__all__ = ["Finetune"]


class Finetune(ImageStage[FinetuneStage]):
    """Learns people's captions through both networks, each with its own learning rate."""

    def prepare(self, indices: list[int], generator: torch.Generator) -> Batch:
        """Read the images' pixels, and augment them."""
        examples = self.pick(indices)
        ids, _ = pad_captions(examples, self.context.captions_per_image, generator)
        paths = [each.path for each in examples if each.path is not None]
        pixels = self.context.annotator.reader(paths)
        if self.config.augment:
            flippable = torch.tensor([each.flippable for each in examples])
            pixels = augment(pixels, flippable, generator)
        return Batch(indices, ids, pixels=pixels)

    def loss(self, batch: Batch) -> Terms:
        """Score people's words, with a gradient down to the pixels."""
        assert batch.pixels is not None
        objective = Objective(
            vocabulary=self.context.data.vocabulary,
            baseline=self.context.baseline,
            label_smoothing=self.config.label_smoothing,
            scheduled_sampling=self.config.scheduled_sampling,
            reward_weight=self.config.reward_weight,
            entropy_weight=self.config.entropy_weight,
            alpha_c=self.config.alpha_c,
        )
        with self.context.autocast():
            features = self.context.annotator.encode_with_gradient(batch.pixels)
            return objective(self.context.network.decoder, features, batch.rows)

    def optimizer(self) -> torch.optim.Optimizer:
        """Give the optimizer of both networks."""
        return build_optimizer(
            self.context.network,
            learning_rate=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            freeze_words=self.config.freeze_words,
            encoder_learning_rate=self.config.encoder_learning_rate,
        )

    def finish(self, best: dict[str, Tensor]) -> dict[str, Tensor]:
        """Round the encoder as a bundle stores it, so that what comes after sees that encoder."""
        finished = dict(best)
        for name, tensor in self.context.network.encoder.state_dict(prefix="encoder.").items():
            if tensor.is_floating_point():  # not a counter of batches
                finished[name] = best[name].half().float()
        return finished
