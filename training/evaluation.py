"""How good a model is: captions by the server's own search, scored by the field's metrics. Knows no training."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.captioning import CaptioningModel
from models.config import DecodingOptions
from models.decoding import decode
from models.tokenizer import Vocabulary

__all__ = ["caption_annotations", "caption_batches"]


@torch.no_grad()
def caption_annotations(
    model: CaptioningModel, annotations: Tensor, options: DecodingOptions, vocabulary: Vocabulary
) -> list[str]:
    """Give the best caption of each picture of annotations (B, L, D)."""
    results = decode(model.decoder, annotations, options)
    return [" ".join(vocabulary.decode(result.captions[0].token_ids)) for result in results]


def caption_batches(
    model: CaptioningModel,
    batches: Iterable[Sequence[Any]],
    annotations_of: Callable[[Sequence[Any]], Tensor],
    options: DecodingOptions,
    vocabulary: Vocabulary,
) -> list[str]:
    """Caption batch after batch of whatever `annotations_of` can encode, in order."""
    return [
        caption
        for batch in batches
        for caption in caption_annotations(model, annotations_of(batch), options, vocabulary)
    ]
