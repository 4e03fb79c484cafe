"""How `vilbert` and `vl-bert` learn pairs: words and regions read together.

Masked words with the picture's help, hidden regions by the word for what lay there, and, where the
matcher has a head for it, whether sentence and picture fit, half of them matched.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.measures.reranking import WEIGHTS, find_candidates, reranked
from evaluation.measures.retrieval import Floats, Pair, mean_recall, owners_of
from models.errors import ConfigError
from models.matching.bundle import MatchingBundle
from models.matching.inference import (
    fit_logits,
    picture_vectors,
    prepare_pictures,
    sentence_vectors,
)
from models.matching.nce import NceMatcher
from models.matching.regions import Regions
from models.matching.vilbert import Vilbert
from models.matching.vl_bert import VlBert
from models.matching.words import pad_sentences
from training.data.batching import seeded
from training.data.masked_words import IGNORED, MaskedWords, hide_words, mask_one_word
from training.matching.blanking import blank_photos, choose_blanks
from training.matching.config import PairsStage
from training.matching.learning import Learning, MatchContext, guessed_words
from training.matching.losses import guess_loss, masked_word_loss
from training.matching.negatives import Mismatches
from training.matching.photos import Photos, read_in_parts

__all__ = ["VilbertLearning", "VlBertLearning"]

JointT = TypeVar("JointT", bound=Vilbert | VlBert)


class _Hidden(NamedTuple):
    """Photos with a hidden region, the last of each: beside sentences ids (H, T), answers (H,)."""

    regions: Regions
    ids: Tensor
    answers: Tensor


class _Batch(NamedTuple):
    """R sentences, each with a photo of B.

    owners: (R,), the place in the batch of the photo that each is read with. matched: (R,) bool.
    masked: sentences with hidden words, whose targets are known of matched ones alone.
    alone: sentences that are read without a picture. hidden: None where no box was hidden.
    """

    regions: Regions
    owners: Tensor
    matched: Tensor
    masked: MaskedWords
    alone: MaskedWords
    hidden: _Hidden | None


class _JointLearning(Learning[JointT, PairsStage, _Batch]):
    """What both have in common."""

    aligns = False

    def __init__(self, stage: PairsStage, context: MatchContext[JointT]) -> None:
        """Compute the features of all photos, and of those with a hidden box, or find them."""
        super().__init__(stage, context)
        config = context.config
        views = context.annotator.views(self.chosen, stage.views, config.seed)
        blocks = config.matcher.blocks
        self.photos = Photos(context.eyes, views, blocks=blocks, hide_encoder=stage.hide_encoder)
        self.dev = context.annotator.cache(context.dev)
        blanks = choose_blanks(
            self.chosen,
            views.caches[0],
            context.vocabulary,
            share=config.blanked_share if stage.masked_regions_weight else 0.0,
            seed=config.seed,
        )
        self.blanked = None
        if blanks:
            self.blanked = blank_photos(
                context.eyes,
                context.annotator,
                self.chosen,
                blanks,
                blocks=blocks,
                hide_encoder=stage.hide_encoder,
            )

    def prepare(self, indices: Sequence[int], generator: torch.Generator) -> _Batch:
        """Draw captions, matched and not, hide words of them, and draw photos with hidden boxes."""
        regions = self.photos.read(indices, generator)
        sentences: list[Sequence[int]] = []
        owners: list[int] = []
        matched: list[bool] = []
        for place, index in enumerate(indices):
            own = self.chosen[index].captions
            order = torch.randperm(len(own), generator=generator).tolist()
            for caption in order[: self.stage.captions_per_photo]:
                pair = [own[caption], *self.mismatched(index, generator)]
                sentences += pair
                owners += [place] * len(pair)
                matched += [True] + [False] * (len(pair) - 1)
        ids = pad_sentences(sentences, self.context.config.matcher.max_words)
        is_matched = torch.tensor(matched)
        masked = self.mask(ids, generator)
        alone = _first(masked, is_matched, self.stage.without_picture)
        return _Batch(
            regions,
            torch.tensor(owners),
            is_matched,
            self._blanks(ids, masked, is_matched, generator),
            alone,
            self._draw_hidden(len(indices), generator),
        )

    def mismatched(self, _index: int, _generator: torch.Generator) -> list[Sequence[int]]:
        """Draw the captions of other photos that are read with a photo besides each of its own."""
        return []

    def losses(self, batch: _Batch) -> dict[str, Tensor]:
        """Score hidden words and regions, and whether pairs fit."""
        device = self.context.device
        model = self.model
        pictures = model.prepare(batch.regions.to(device)).select(batch.owners.to(device))
        output = model(batch.masked.ids.to(device), pictures)
        targets = batch.masked.targets.to(device)
        words = masked_word_loss(model.table.guess, output.words, targets)
        terms = {"words": self.stage.masked_words_weight * words}
        if output.fits is not None:
            fits = output.fits.float()
            matched = batch.matched.to(device).float()
            terms["fits"] = F.binary_cross_entropy_with_logits(fits, matched)
        if len(batch.alone.ids):
            states = model(batch.alone.ids.to(device), None).words
            alone = masked_word_loss(model.table.guess, states, batch.alone.targets.to(device))
            terms["alone"] = self.stage.masked_words_weight * self.stage.without_picture * alone
        if batch.hidden is not None:
            terms["regions"] = self.stage.masked_regions_weight * self._region_loss(batch.hidden)
        return terms

    def _region_loss(self, hidden: _Hidden) -> Tensor:
        device = self.context.device
        pictures = self.model.prepare(hidden.regions.to(device))
        regions = self.model(hidden.ids.to(device), pictures).regions
        assert regions is not None
        return guess_loss(self.model.table.guess, regions[:, -1], hidden.answers.to(device))

    def _blanks(
        self, ids: Tensor, masked: MaskedWords, matched: Tensor, generator: torch.Generator
    ) -> MaskedWords:
        """Hide words of some sentences, matched or not alike; the others are read as they are."""
        share = self.stage.masked_rows if self.aligns else 1.0
        has_blanks = (torch.rand(len(ids), generator=generator) < share).unsqueeze(1)
        known = has_blanks & matched.unsqueeze(1)
        return MaskedWords(
            torch.where(has_blanks, masked.ids, ids), torch.where(known, masked.targets, IGNORED)
        )

    def _draw_hidden(self, photos: int, generator: torch.Generator) -> _Hidden | None:
        """Draw photos with a hidden box, half as many as photos of the batch."""
        if self.blanked is None:
            return None
        numbers = self.blanked.draw(max(1, photos // 2), generator)
        chosen = [self.blanked.blanks[number] for number in numbers]
        mask_id = self.model.table.mask_id
        sentences = [
            hide_words(self.chosen[each.example].captions[each.caption], each.answers, mask_id)
            for each in chosen
        ]
        return _Hidden(
            self.blanked.read(numbers, generator),
            pad_sentences(sentences, self.context.config.matcher.max_words),
            torch.tensor([each.answers[0] for each in chosen]),
        )


class VlBertLearning(_JointLearning[VlBert]):
    """Masked words and masked regions (Su et al. 2020, section 3.3)."""

    def validate(self) -> dict[str, float]:
        """Give the share of hidden words of dev captions that are guessed beside their photos."""
        config = self.context.config
        grid = self.context.eyes.encoder.grid
        device = self.context.device
        right: list[float] = []
        first = 0
        for part in read_in_parts(self.dev, grid, config.matcher.blocks):
            own = self.context.dev_sentences[first : first + len(part)]
            ids = pad_sentences([each[0] for each in own], config.matcher.max_words)
            masked = mask_one_word(
                ids, mask_id=self.model.table.mask_id, generator=seeded(config.seed, 5, first)
            )
            with torch.inference_mode():
                states = self.model(masked.ids.to(device), self.model.prepare(part.to(device)))
            right += [guessed_words(self.model, states.words, masked.targets.to(device))] * len(own)
            first += len(part)
        return {"words": float(np.mean(right))}


class VilbertLearning(_JointLearning[Vilbert]):
    """Masked words, masked regions and alignment (Lu et al. 2019, section 2.3)."""

    aligns = True

    def __init__(
        self, stage: PairsStage, context: MatchContext[Vilbert], finder: MatchingBundle
    ) -> None:
        """Find hard negatives by `finder`, the nce whose candidates are re-ranked.

        Raises ConfigError where that bundle is no nce.
        """
        super().__init__(stage, context)
        if not isinstance(finder.model, NceMatcher):
            raise ConfigError(
                f"nce: '{finder.config.name}' is a {finder.config.matcher.kind}; name a bundle "
                "that finds."
            )
        self.finder = finder.model.to(context.device)
        blocks = self.finder.config.blocks
        grid = context.eyes.encoder.grid
        views = self.photos.views
        sentences = [caption for example in self.chosen for caption in example.captions]
        self.mismatches = Mismatches(
            self.chosen,
            picture_vectors(self.finder, read_in_parts(views.caches[0], grid, blocks)),
            sentence_vectors(self.finder, sentences),
        )
        self.dev_similarity = self._find_on_dev(blocks)

    def mismatched(self, index: int, generator: torch.Generator) -> list[Sequence[int]]:
        """Draw one caption of another photo, near or any, so that half of the pairs do not fit."""
        hard = bool(torch.rand(1, generator=generator) < self.stage.hard_share)
        number, caption = self.mismatches.draw(index, hard=hard, generator=generator)
        return [self.chosen[number].captions[caption]]

    def validate(self) -> dict[str, float]:
        """Give the mean recall on dev of what nce finds, in this order, at the best weight."""
        config = self.context.config
        grid = self.context.eyes.encoder.grid
        sentences = [each for own in self._dev_sentences() for each in own]
        parts = read_in_parts(self.dev, grid, config.matcher.blocks, config.dev_photos)
        pictures = prepare_pictures(self.model, parts)

        def fit(pairs: Sequence[Pair]) -> Floats:
            logits: Floats = fit_logits(self.model, pictures, sentences, pairs).numpy()
            return logits

        owners = owners_of([len(own) for own in self._dev_sentences()])
        candidates = find_candidates(self.dev_similarity, config.candidates, fit)
        recalls = [mean_recall(reranked(candidates, owners, weight)) for weight in WEIGHTS]
        return {"mean recall": max(recalls)}

    def _dev_sentences(self) -> Sequence[Sequence[Sequence[int]]]:
        return self.context.dev_sentences[: self.context.config.dev_photos]

    def _find_on_dev(self, blocks: int) -> Floats:
        """Give the scaled similarity of dev photos and their captions, by the finder."""
        grid = self.context.eyes.encoder.grid
        parts = read_in_parts(self.dev, grid, blocks, self.context.config.dev_photos)
        pictures = picture_vectors(self.finder, parts)
        sentences = [each for own in self._dev_sentences() for each in own]
        products = pictures @ sentence_vectors(self.finder, sentences).T
        similarity: Floats = (self.finder.scale.cpu() * products).numpy()
        return similarity


def _first(masked: MaskedWords, matched: Tensor, share: float) -> MaskedWords:
    """Take a share of the matched sentences, those that come first."""
    places = matched.nonzero().squeeze(1)
    count = round(share * len(places))
    chosen = places[: count or (1 if share else 0)]
    return MaskedWords(masked.ids[chosen], masked.targets[chosen])
