"""What a captioner takes from another as it begins: tensors by name and shape. Knows no files
and no experiments."""

from models.network import CaptioningModel, overlap

__all__ = ["borrow"]


def borrow(model: CaptioningModel, lender: CaptioningModel) -> None:
    """Begin with the lender's tensors wherever they fit; the others stay as they are.

    What reads more features than the lender's is blind to those at first: their columns are zero.
    """
    own = model.state_dict()
    for name, tensor in overlap(model, lender).items():
        if own[name].dim() > 1:
            own[name].zero_()
        own[name][..., : tensor.shape[-1] if tensor.dim() else None] = tensor
