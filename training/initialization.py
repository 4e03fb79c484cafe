"""What a captioner takes from another as it begins: tensors by name and shape. Knows no files
and no experiments."""

import torch
from torch import Tensor, nn

from models.network import CaptioningModel

__all__ = ["borrow", "overlap", "sees_more"]


def sees_more(model: CaptioningModel, lender: CaptioningModel) -> bool:
    """Whether the model's encoder is the lender's with more in it, whose features come behind
    the lender's."""
    own, lent = _shapes(model.encoder), _shapes(lender.encoder)
    return lent.items() < own.items() and lender.encoder.feature_dim < model.encoder.feature_dim


def overlap(model: CaptioningModel, lender: CaptioningModel) -> dict[str, Tensor]:
    """Give the lender's tensors that fit, by name: those of the same shape.

    Where the model sees more than the lender, also those that lack nothing but the columns of the
    features behind.
    """
    wanted = _shapes(model)
    features = (
        (lender.encoder.feature_dim, model.encoder.feature_dim)
        if sees_more(model, lender)
        else None
    )

    def fits(own: torch.Size, lent: torch.Size) -> bool:
        return own == lent or (own[:-1] == lent[:-1] and (lent[-1], own[-1]) == features)

    return {
        name: t
        for name, t in lender.state_dict().items()
        if name in wanted and fits(wanted[name], t.shape)
    }


def borrow(model: CaptioningModel, lender: CaptioningModel) -> None:
    """Begin with the lender's tensors wherever they fit; the others stay as they are.

    What reads more features than the lender's is blind to those at first: their columns are zero.
    """
    own = model.state_dict()
    for name, tensor in overlap(model, lender).items():
        if own[name].dim() > 1:
            own[name].zero_()
        own[name][..., : tensor.shape[-1] if tensor.dim() else None] = tensor


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
