"""A captioner trained as one first writes it down: the loop that our training is compared with.

Pillow and a `DataLoader`, float32, AdamW, cross-entropy. The network is the same, its layout the
one that PyTorch has by itself; there is no cache of annotations, so that a frozen encoder encodes
each photo again each time it is seen.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.peer_servers.plain_model import plain_features
from models.config import PreprocessConfig
from models.features import ImageFeatures, Tags
from models.network import CaptioningModel
from models.tokenizer import Vocabulary

__all__ = ["PlainPhotos", "train_plainly"]

_LEARNING_RATE = 1e-4
Item = tuple[Tensor, Tensor]  # pixels (3, S, S) uint8, and ids (G, T)


class PlainPhotos(Dataset[Item]):
    """The photos of a list in JSON Lines; every one has as many captions."""

    def __init__(self, folder: Path, vocabulary: Vocabulary, side_pixels: int) -> None:
        lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
        self._records: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._folder = folder
        self._vocabulary = vocabulary
        self._side_pixels = side_pixels

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Item:
        record = self._records[index]
        image = Image.open(self._folder / record["file"]).convert("RGB")
        image = image.resize((self._side_pixels, self._side_pixels), Image.Resampling.BICUBIC)
        ids = [
            torch.tensor([Vocabulary.bos_id, *self._vocabulary.encode(text), Vocabulary.eos_id])
            for text in record["captions"]
        ]
        padded = torch.nn.utils.rnn.pad_sequence(
            ids, batch_first=True, padding_value=Vocabulary.pad_id
        )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), padded


def train_plainly(
    network: CaptioningModel,
    preprocess: PreprocessConfig,
    photos: PlainPhotos,
    *,
    batch_size: int,
    finetune: bool,
    seconds: float,
) -> float:
    """Train for some time; give photos a second, without the first step.

    finetune: the encoder learns too; else it is frozen.
    """
    network.train()
    network.requires_grad_(True)
    network.encoder.requires_grad_(finetune)
    if not finetune:
        network.encoder.eval()
    if network.tagger is not None:
        network.tagger.requires_grad_(False)
    learning = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=_LEARNING_RATE)
    began: float | None = None
    seen = 0
    for pixels, ids in _endless(photos, batch_size):
        optimizer.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(finetune):
            features = plain_features(network, pixels, preprocess)
        _loss(network, features, ids).backward()
        optimizer.step()
        if began is None:
            began = time.perf_counter()  # the first step warms up
            continue
        seen += len(pixels)
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return seen / elapsed
    raise RuntimeError("A set of photos has at least one batch.")


def _endless(photos: PlainPhotos, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw epoch after epoch: pixels (B, 3, S, S), and ids (B, G, T)."""
    loader = DataLoader(
        photos, batch_size=batch_size, shuffle=True, drop_last=True, collate_fn=_collate
    )
    while len(loader):
        yield from loader


def _collate(items: list[Item]) -> tuple[Tensor, Tensor]:
    pixels = torch.stack([each for each, _ in items])
    longest = max(ids.shape[1] for _, ids in items)
    padded = [F.pad(ids, (0, longest - ids.shape[1]), value=Vocabulary.pad_id) for _, ids in items]
    return pixels, torch.stack(padded)


def _loss(network: CaptioningModel, features: ImageFeatures, ids: Tensor) -> Tensor:
    """Score the captions ids (B, G, T) by teacher forcing, one row a caption."""
    group = ids.shape[1]
    rows = ids.flatten(0, 1)  # (R, T)
    annotations = features.annotations.repeat_interleave(group, dim=0)  # (R, L, D)
    tags = None
    if features.tags is not None:
        tags = Tags(features.tags.values.repeat_interleave(group, dim=0))
    state = network.decoder.init_state(annotations, tags)
    output = network.decoder(rows[:, :-1], state)
    logits = network.decoder.logits(output.readout, output.copies)  # (R, T - 1, V)
    return F.cross_entropy(
        logits.flatten(0, 1), rows[:, 1:].flatten(), ignore_index=Vocabulary.pad_id
    )
