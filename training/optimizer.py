"""What moves the weights: AdamW by parts of the model, and the learning rate over a stage. Knows
no data."""

import math

import torch

from models.network import CaptioningModel
from training.config import StageConfig

__all__ = ["build_optimizer", "rate_at"]

_BETAS = (0.9, 0.98)


def build_optimizer(model: CaptioningModel, stage: StageConfig) -> torch.optim.Optimizer:
    """Give AdamW over what the stage trains (Loshchilov and Hutter 2019), and let nothing else have
    a gradient.

    Matrices decay, vectors do not; the encoder has its own rate and learns only when fine-tuned. A
    group's `base_rate` is its rate before `rate_at` scales it.
    """
    model.requires_grad_(True)
    model.encoder.requires_grad_(stage.kind == "finetune")
    if stage.freeze_words:
        model.decoder.embedding.requires_grad_(False)
        model.decoder.output.requires_grad_(False)
    groups = []
    for module, rate in (
        (model.decoder, stage.learning_rate),
        (model.encoder, stage.encoder_learning_rate),
    ):
        for decays in (True, False):
            chosen = [p for p in module.parameters() if p.requires_grad and (p.ndim > 1) == decays]
            if chosen:
                decay = stage.weight_decay if decays else 0.0
                groups.append(
                    {"params": chosen, "base_rate": rate, "lr": rate, "weight_decay": decay}
                )
    return torch.optim.AdamW(groups, betas=_BETAS)


def rate_at(stage: StageConfig, done: float) -> float:
    """Share of the learning rate after `done` of the stage, in [0, 1]: linear warm-up, then a
    cosine to its end."""
    if done < stage.warmup_fraction:
        return (done + 1e-8) / stage.warmup_fraction
    cosine = 0.5 * (
        1
        + math.cos(math.pi * (done - stage.warmup_fraction) / max(1 - stage.warmup_fraction, 1e-8))
    )
    return stage.final_fraction + (1 - stage.final_fraction) * cosine
