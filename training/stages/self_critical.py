"""The self-critical stage: the decoder's own samples are rewarded by CIDEr-D (Rennie et al. 2017).

R rows, G samples of each image.
"""

import torch
from torch import Tensor

from models.features import ImageFeatures
from models.sampling import sample
from training.config import SelfCriticalStage
from training.objective import Objective, Terms
from training.rewards import CaptionReward, advantages
from training.stages.base import Batch, StageContext
from training.stages.cached import CachedStage

__all__ = ["SelfCritical"]


class SelfCritical(CachedStage[SelfCriticalStage]):
    """Learns from rewarded samples; if asked, also where people's words should attend."""

    def __init__(self, config: SelfCriticalStage, context: StageContext) -> None:
        """Prepare the reward over all examples."""
        super().__init__(config, context)
        self.reward = CaptionReward(self.chosen, context.data.vocabulary)

    def loss(self, batch: Batch) -> Terms:
        """Score samples by their advantage, and maps on people's words: samples have no boxes."""
        assert batch.features is not None
        samples, advantage = self._sample_and_score(batch.features, batch.indices)
        decoder = self.context.network.decoder
        objective = Objective(
            vocabulary=self.context.data.vocabulary,
            baseline=self.context.baseline,
            alpha_c=self.config.alpha_c,
            attention_loss_weight=self.config.attention_loss_weight,
        )
        targets = batch.attention_targets
        with self.context.autocast():
            terms = objective(decoder, batch.features, samples, advantage=advantage)
            if targets is None:
                return terms
            people = objective(decoder, batch.features, batch.rows, attention_targets=targets)
        return terms._replace(attention=people.attention, attention_words=people.attention_words)

    def _sample_and_score(
        self, features: ImageFeatures, indices: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Sample captions of images `indices`, and reward them.

        Gives ids (R, T + 2) from bos on, and advantages (R,).
        """
        # the policy is the network as it decodes, without dropout, here and in the loss
        self.context.network.eval()
        count = self.context.captions_per_image
        with self.context.autocast():
            drawn = sample(
                self.context.network.decoder,
                features,
                count=count,
                max_length=self.context.max_length,
            )
        rewards = self.reward(indices, drawn.view(len(indices), count, -1))  # (B, G)
        self.context.run_log.note("train/self-critical/reward", rewards.mean().item())
        bos = drawn.new_full((len(drawn), 1), self.context.data.vocabulary.bos_id)
        return torch.cat([bos, drawn], dim=1), advantages(rewards).flatten().to(drawn.device)
