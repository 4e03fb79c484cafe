"""Vectors of many pictures and sentences, and how well many pairs fit, batch by batch.

Knows no files. P pictures, S sentences, Q pairs; J as in `models.matching.nce`.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from models.matching.layers import RegionStates
from models.matching.nce import NceMatcher
from models.matching.regions import Regions
from models.matching.vilbert import Vilbert
from models.matching.words import pad_sentences

__all__ = ["fit_logits", "picture_vectors", "prepare_pictures", "sentence_vectors"]

_SENTENCES = 256
_PAIRS = 128


@torch.inference_mode()
def picture_vectors(model: NceMatcher, parts: Iterable[Regions]) -> Tensor:
    """Give the vectors (P, J) of pictures that come in parts, on the model's device or the CPU."""
    device = model.log_scale.device
    return torch.cat([model.encode_pictures(part.to(device)).cpu() for part in parts])


@torch.inference_mode()
def sentence_vectors(model: NceMatcher, sentences: Sequence[Sequence[int]]) -> Tensor:
    """Give the vectors (S, J) of sentences, as ids without bos and eos."""
    order = sorted(range(len(sentences)), key=lambda each: len(sentences[each]))
    vectors = torch.empty(len(sentences), model.config.joint_dim)
    for start in range(0, len(order), _SENTENCES):
        chosen = order[start : start + _SENTENCES]
        ids = pad_sentences([sentences[each] for each in chosen], model.config.max_words)
        vectors[chosen] = model.encode_sentences(ids.to(model.log_scale.device)).cpu()
    return vectors


@torch.inference_mode()
def prepare_pictures(model: Vilbert, parts: Iterable[Regions]) -> RegionStates:
    """Do once for each of P pictures, which come in parts, what no sentence changes."""
    device = model.align.weight.device
    states = [model.prepare(part.to(device)) for part in parts]
    return RegionStates(
        torch.cat([each.x for each in states]), torch.cat([each.present for each in states])
    )


@torch.inference_mode()
def fit_logits(
    model: Vilbert,
    pictures: RegionStates,
    sentences: Sequence[Sequence[int]],
    pairs: Sequence[tuple[int, int]],
) -> Tensor:
    """Give the logits (Q,) of pairs (picture, sentence) fitting, in their order."""
    device = model.align.weight.device
    order = sorted(range(len(pairs)), key=lambda each: len(sentences[pairs[each][1]]))
    logits = torch.empty(len(pairs))
    for start in range(0, len(order), _PAIRS):
        chosen = order[start : start + _PAIRS]
        ids = pad_sentences([sentences[pairs[each][1]] for each in chosen], model.config.max_words)
        rows = torch.tensor([pairs[each][0] for each in chosen], device=device)
        fits = model(ids.to(device), pictures.select(rows)).fits
        logits[chosen] = fits.float().cpu()
    return logits
