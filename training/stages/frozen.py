"""The frozen stage: the decoder learns people's captions from an encoder that does not change."""

from training.config import FrozenStage
from training.objective import Objective, Terms
from training.stages.base import Batch
from training.stages.cached import CachedStage

__all__ = ["Frozen"]


class Frozen(CachedStage[FrozenStage]):
    """Learns people's captions; if asked, also from teachers, and where words should attend."""

    def loss(self, batch: Batch) -> Terms:
        """Score people's words, and the maps where their boxes are known."""
        config = self.config
        objective = Objective(
            vocabulary=self.context.data.vocabulary,
            baseline=self.context.baseline,
            teachers=[self.context.teachers[name] for name in config.distil_from],
            label_smoothing=config.label_smoothing,
            scheduled_sampling=config.scheduled_sampling,
            distil_weight=config.distil_weight,
            reward_weight=config.reward_weight,
            entropy_weight=config.entropy_weight,
            alpha_c=config.alpha_c,
            attention_loss_weight=config.attention_loss_weight,
        )
        with self.context.autocast():
            return objective(
                self.context.network.decoder,
                batch.features,
                batch.rows,
                attention_targets=batch.attention_targets,
                whole=batch.whole,
            )
