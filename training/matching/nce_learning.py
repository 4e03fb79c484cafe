"""How `nce` learns pairs: true ones against mismatched ones, of the batch and of a memory."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.measures.retrieval import (
    Ranks,
    mean_recall,
    owners_of,
    rank_pictures,
    rank_sentences,
)
from models.matching.inference import picture_vectors, sentence_vectors
from models.matching.nce import NceMatcher
from models.matching.regions import Regions
from models.matching.words import pad_sentences
from training.data.masked_words import MaskedWords
from training.matching.config import PairsStage
from training.matching.learning import Learning, MatchContext
from training.matching.losses import contrastive_loss, masked_word_loss
from training.matching.memory import PairMemory
from training.matching.photos import Photos, read_in_parts

__all__ = ["NceLearning"]


class _Batch(NamedTuple):
    """B photos with R captions.

    numbers: (B,), of the photos among the examples. owners: (R,), the place of each caption's photo
    in the batch. masked: some of the captions with hidden words.
    """

    regions: Regions
    numbers: Tensor
    ids: Tensor
    owners: Tensor
    masked: MaskedWords


class NceLearning(Learning[NceMatcher, PairsStage, _Batch]):
    """Symmetrical noise-contrastive estimation, and masked words so that language is kept."""

    def __init__(self, stage: PairsStage, context: MatchContext[NceMatcher]) -> None:
        """Compute the features of all photos, or find them."""
        super().__init__(stage, context)
        views = context.annotator.views(self.chosen, stage.views, context.config.seed)
        self.photos = Photos(
            context.eyes,
            views,
            blocks=context.config.matcher.blocks,
            hide_encoder=stage.hide_encoder,
        )
        self.dev = context.annotator.cache(context.dev)
        self.memory = PairMemory(stage.memory, self.model.config.joint_dim)

    def prepare(self, indices: Sequence[int], generator: torch.Generator) -> _Batch:
        """Draw captions of each photo, and hide words of one of each ten."""
        regions = self.photos.read(indices, generator)
        sentences: list[Sequence[int]] = []
        owners = []
        for place, index in enumerate(indices):
            captions = self.chosen[index].captions
            order = torch.randperm(len(captions), generator=generator).tolist()
            for caption in order[: self.stage.captions_per_photo]:
                sentences.append(captions[caption])
                owners.append(place)
        ids = pad_sentences(sentences, self.context.config.matcher.max_words)
        kept = max(1, round(len(ids) * self.stage.without_picture))
        masked = self.mask(ids[:kept], generator)
        return _Batch(regions, torch.tensor(indices), ids, torch.tensor(owners), masked)

    def losses(self, batch: _Batch) -> dict[str, Tensor]:
        """Tell pairs from mismatches; what was seen is remembered for the steps to come."""
        device = self.context.device
        model = self.model
        owners = batch.owners.to(device)
        numbers = batch.numbers.to(device)
        pictures = model.encode_pictures(batch.regions.to(device))
        sentences = model.encode_sentences(batch.ids.to(device))
        own = pictures[owners]
        of = numbers[owners]
        scale = model.scale
        loss = contrastive_loss(
            scale * (pictures @ sentences.T),
            owners,
            numbers,
            pictures_before=_scaled(
                self.memory.hardest_pictures(sentences, of, self.stage.hardest), scale
            ),
            sentences_before=_scaled(
                self.memory.hardest_sentences(own, of, self.stage.hardest), scale
            ),
        )
        self.memory.add(own, sentences, of)
        terms = {"pairs": loss}
        if self.stage.without_picture:
            states = model.read(batch.masked.ids.to(device))
            words = masked_word_loss(model.table.guess, states, batch.masked.targets.to(device))
            terms["words"] = self.stage.without_picture * words
        return terms

    def validate(self) -> dict[str, float]:
        """Give the mean recall at 1, 5 and 10 of both ways on dev."""
        config = self.context.config
        grid = self.context.eyes.encoder.grid
        parts = read_in_parts(self.dev, grid, config.matcher.blocks)
        sentences = sentence_vectors(self.model, self.context.flat_dev)
        similarity = (picture_vectors(self.model, parts) @ sentences.T).numpy()
        owners = owners_of([len(own) for own in self.context.dev_sentences])
        ranks = Ranks(rank_pictures(similarity, owners), rank_sentences(similarity, owners))
        return {"mean recall": mean_recall(ranks)}

    def state(self) -> dict[str, Tensor]:
        """Give the memory."""
        return self.memory.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take the memory back."""
        self.memory.restore(tensors)


def _scaled(products: Tensor | None, scale: Tensor) -> Tensor | None:
    """Multiply what is finite: of -inf the scale would get no gradient but nan."""
    if products is None:
        return None
    absent = products.isinf()
    return (scale * products.masked_fill(absent, 0.0)).masked_fill(absent, -torch.inf)
