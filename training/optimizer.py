"""AdamW by parts of the model, and the learning rate over a stage. Knows no data and no stages."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from models.network import CaptioningModel

__all__ = ["build_adamw", "build_optimizer", "rate_at"]

_BETAS = (0.9, 0.98)


def build_optimizer(
    model: CaptioningModel,
    *,
    learning_rate: float,
    weight_decay: float,
    freeze_words: bool = False,
    encoder_learning_rate: float | None = None,
) -> torch.optim.Optimizer:
    """Give AdamW over what is to be trained, as `build_adamw`; nothing else keeps a gradient.

    freeze_words: leave the embedding and the output layer as they are.
    encoder_learning_rate: None leaves the encoder as it is.
    """
    model.requires_grad_(True)
    model.encoder.requires_grad_(encoder_learning_rate is not None)
    if model.tagger is not None:
        model.tagger.requires_grad_(False)
    if freeze_words:
        model.decoder.embedding.requires_grad_(False)
        model.decoder.output.requires_grad_(False)
    encoder_rate = 0.0 if encoder_learning_rate is None else encoder_learning_rate
    parts = ((model.decoder, learning_rate), (model.encoder, encoder_rate))
    return build_adamw(parts, weight_decay)


def build_adamw(
    parts: Sequence[tuple[nn.Module, float]], weight_decay: float
) -> torch.optim.Optimizer:
    """Give AdamW over what has a gradient in modules, each with its learning rate.

    Loshchilov and Hutter 2019. Matrices decay, vectors do not. A group's `base_rate` is its rate
    before `rate_at` scales it.
    """
    groups = []
    for module, rate in parts:
        for decays in (True, False):
            chosen = [p for p in module.parameters() if p.requires_grad and (p.ndim > 1) == decays]
            if chosen:
                decay = weight_decay if decays else 0.0
                groups.append(
                    {"params": chosen, "base_rate": rate, "lr": rate, "weight_decay": decay}
                )
    return torch.optim.AdamW(groups, betas=_BETAS, fused=True)


def rate_at(done: float, *, warmup_fraction: float, final_fraction: float) -> float:
    """Give the share of the learning rate after `done` of the stage, in [0, 1].

    A linear rise, then a cosine down to its end.
    """
    if done < warmup_fraction:
        return (done + 1e-8) / warmup_fraction
    since_warmup = (done - warmup_fraction) / max(1 - warmup_fraction, 1e-8)
    cosine = 0.5 * (1 + math.cos(math.pi * since_warmup))
    return final_fraction + (1 - final_fraction) * cosine
