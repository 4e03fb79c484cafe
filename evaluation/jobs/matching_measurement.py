"""All that matching models can do, measured on the test split. Writes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.gallery import Gallery, see_gallery
from evaluation.jobs.bundles import Messages
from evaluation.matching_results import (
    ChosenCaptions,
    Estimates,
    FoundPhotos,
    Judged,
    MatchingResults,
    Reranked,
    Retrieved,
)
from evaluation.measures.bootstrap import compare, default_resamples, estimate
from evaluation.measures.chosen_captions import Choices, best_mixture, choose
from evaluation.measures.matching import (
    find_blanks,
    guess_regions,
    guess_words,
    judge_pairs,
    mismatch,
    most_frequent_answer,
)
from evaluation.measures.reranking import best_weight, find_candidates, reranked
from evaluation.measures.retrieval import (
    Floats,
    Ints,
    Pair,
    Ranks,
    rank_pictures,
    rank_sentences,
    retrieval_scores,
)
from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.metrics.score import Score, mean_score
from evaluation.records import Estimate
from evaluation.report.matching_page import read_queries
from evaluation.scoring import score_sets
from models.bundles.registry import load_model
from models.captioner import NetworkCaptioner
from models.errors import ConfigError
from models.loading import build_captioner
from models.matching.bundle import MatchingBundle, check_eyes, list_matchers, load_matcher
from models.matching.inference import (
    fit_logits,
    picture_vectors,
    prepare_pictures,
    sentence_vectors,
)
from models.matching.layers import RegionStates
from models.matching.nce import NceMatcher
from models.matching.vilbert import Vilbert
from models.matching.vl_bert import VlBert
from models.runtime.torch import Precision
from models.tokenizer import Vocabulary
from training.data.datasets import CaptionedImage, DatasetConfig, read_dataset
from training.data.examples import Example, make_examples
from training.data.flickr30k_entities import read_entities
from training.matching.config import MatchTrainConfig

__all__ = ["MATCHING_PAGE", "Measurement", "RetrievalRequest"]

MATCHING_PAGE = Path("docs/matching.md")

_PHOTOS_A_QUERY = 5
_CAPTIONS = 10
_TOLD = ("CIDEr-D", MAIN_OBJECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalRequest:
    """What is measured, and what is written.

    experiment: its first test set is measured on, its dev set chooses. finder, reranker, filler:
    bundles below weights/matching; the latter two are left out where there is none of that name.
    output: the page; the figures lie beside it as JSON. photos_sheet: gets the photos that the
    queries find, which may not be passed on. limit: a quick look at the first photos: printed,
    nothing written.
    """

    experiment: Path
    data_folder: Path
    weights_folder: Path
    output: Path = MATCHING_PAGE
    finder: str = "nce"
    reranker: str = "vilbert"
    filler: str = "vl-bert"
    candidates: int | None = None
    precision: Precision = "auto"
    photos_sheet: Path | None = None
    limit: int | None = None


class Measurement:
    """One measurement: the models, the eyes, and the photos that they saw once."""

    def __init__(
        self,
        request: RetrievalRequest,
        config: MatchTrainConfig,
        messages: Messages,
        advance: Callable[[int], object],
    ) -> None:
        """Load the models, and see all photos. Raises GlimpseError where that cannot be."""
        self.request = request
        self.config = config
        self.messages = messages
        self.advance = advance
        finder = load_matcher(request.weights_folder, request.finder)
        if not isinstance(finder.model, NceMatcher):
            raise ConfigError(f"'{request.finder}' is no nce: it finds nothing.")
        self.finder = finder
        self.find = finder.model
        self.vocabulary: Vocabulary = finder.vocabulary
        self.others = self._load_others()
        self.captioner = self._load_eyes()
        self.test_set = config.test[0]
        self.test = self._see(self.test_set)
        self.dev = self._see(config.dev[0])

    def measure(self) -> MatchingResults:
        """Measure all that the bundles which are there can do."""
        similarity = self._similarity(self.test)
        results = MatchingResults(
            photos=len(self.test),
            captions=len(self.test.sentences),
            eyes=self.finder.config.eyes,
            finder=self.request.finder,
            digests={each.config.name: each.digest for each in (self.finder, *self.others)},
            found=_retrieved(_rank(similarity, self.test.owners), self.test.owners),
            queries=self._ask(),
        )
        update: dict[str, Any] = {"words": self._words(), **self._regions()}
        judge = self._judge()
        if judge is not None:
            update |= self._fits(judge, similarity)
        return results.model_copy(update=update)

    # -- what is measured with ----

    def _load_others(self) -> list[MatchingBundle]:
        there = list_matchers(self.request.weights_folder)
        found = []
        for name in (self.request.reranker, self.request.filler):
            if name not in there:
                self.messages.warn(f"There is no bundle {name!r}: its rows are left out.")
                continue
            bundle = load_matcher(self.request.weights_folder, name)
            if bundle.vocabulary.words != self.vocabulary.words:
                raise ConfigError(f"'{name}' and '{self.request.finder}' have other words.")
            found.append(bundle)
        return found

    def _load_eyes(self) -> NetworkCaptioner:
        checkpoint = load_model(self.request.weights_folder, self.finder.config.eyes)
        for bundle in (self.finder, *self.others):
            check_eyes(bundle, checkpoint.model)
        return build_captioner(
            checkpoint,
            precision=self.request.precision,
            runtime="auto",
            threads=torch.get_num_threads(),
        )

    def _see(self, dataset: DatasetConfig) -> Gallery:
        images, report = read_dataset(dataset)
        if report.problems:
            self.messages.warn(report.summary())
        return see_gallery(
            self.captioner, images[: self.request.limit], self.vocabulary, self.advance
        )

    def _judge(self) -> Vilbert | None:
        models = (each.model for each in self.others)
        return next((each for each in models if isinstance(each, Vilbert)), None)

    def _joint(self) -> dict[str, Vilbert | VlBert]:
        return {
            each.config.name: each.model
            for each in self.others
            if not isinstance(each.model, NceMatcher)
        }

    # -- what nce finds ----

    def _similarity(self, gallery: Gallery) -> Floats:
        """Give the products of photos and captions (P, S), times the scale."""
        pictures = picture_vectors(self.find, gallery.parts(self.find.config.blocks))
        products = pictures @ sentence_vectors(self.find, gallery.sentences).T
        similarity: Floats = (self.find.scale * products).numpy()
        return similarity

    def _ask(self) -> tuple[FoundPhotos, ...]:
        queries = read_queries()
        pictures = picture_vectors(self.find, self.test.parts(self.find.config.blocks))
        asked = sentence_vectors(self.find, [self.vocabulary.encode(each) for each in queries])
        count = min(_PHOTOS_A_QUERY, len(self.test))
        best = (asked @ pictures.T).topk(count, dim=1).indices.tolist()
        return tuple(
            FoundPhotos(query=query, photos=tuple(self.test.images[each].key for each in row))
            for query, row in zip(queries, best, strict=True)
        )

    # -- what the others guess ----

    def _words(self) -> dict[str, Estimates]:
        found = {}
        for name, model in self._joint().items():
            found[name] = {
                way: estimate(guess_words(model, self.test, with_pictures=way == "with"))
                for way in ("with", "without")
            }
        return found

    def _regions(self) -> dict[str, Any]:
        """Guess hidden regions, where the test set says which boxes phrases have."""
        models = self._joint()
        if self.test_set.entities is None or not models:
            return {}
        examples = self._grounded(self.test_set, self.test.images)
        blanks = find_blanks(examples)
        if not blanks:
            return {}
        frequent = self._most_frequent()
        regions = {
            name: _of_blanks(guess_regions(model, self.test, blanks, examples, self.advance))
            for name, model in models.items()
        }
        return {
            "regions": regions,
            "region_word": self.vocabulary.tokens[frequent],
            "region_guess": _of_blanks([float(frequent in each.answers) for each in blanks]),
            "region_photos": len(blanks),
        }

    def _most_frequent(self) -> int:
        """Give the head noun that is most frequent in the train sets with boxes."""
        examples: list[Example] = []
        for dataset in self.config.train:
            if dataset.entities is not None:
                images, _ = read_dataset(dataset)
                examples += self._grounded(dataset, images)
        blanks = find_blanks(examples)
        if not blanks:
            raise ConfigError(f"{self.request.experiment}: no train set has boxes of phrases.")
        return most_frequent_answer(blanks)

    def _grounded(self, dataset: DatasetConfig, images: Sequence[CaptionedImage]) -> list[Example]:
        assert dataset.entities is not None
        grounding = read_entities(dataset.root / dataset.entities)
        max_words = self.config.matcher.max_words
        examples = make_examples(
            images, self.vocabulary, 1.0, max_words, dataset.name, grounding=grounding
        )
        if len(examples) != len(images):
            raise ConfigError(f"{dataset.name}: a photo has no caption with a known word.")
        return examples

    # -- whether pairs fit ----

    def _fits(self, model: Vilbert, similarity: Floats) -> dict[str, Any]:
        test = prepare_pictures(model, self.test.parts(model.config.blocks))
        return {
            "reranked": self._rerank(model, test, similarity),
            "judged": self._tell(model, test, similarity),
            "captions_chosen": self._choose(model, test),
        }

    def _rerank(self, model: Vilbert, test: RegionStates, similarity: Floats) -> Reranked:
        count = self.request.candidates or self.config.candidates
        few = self.dev.first(self.config.dev_photos)
        states = prepare_pictures(model, few.parts(model.config.blocks))
        on_dev = find_candidates(self._similarity(few), count, _fit(model, states, few))
        weight = best_weight(on_dev, few.owners)
        on_test = find_candidates(similarity, count, _fit(model, test, self.test))
        return Reranked(
            candidates=count,
            weight=weight,
            dev_photos=len(few),
            retrieved=_retrieved(reranked(on_test, self.test.owners, weight), self.test.owners),
        )

    def _tell(self, model: Vilbert, test: RegionStates, similarity: Floats) -> dict[str, Judged]:
        owners = self.test.owners
        fit = _fit(model, test, self.test)
        matched = fit([(int(owner), number) for number, owner in enumerate(owners)])
        judged = {}
        for kind in ("random", "near"):
            others = mismatch(similarity, owners, hard=kind == "near")
            pairs = [(int(p), int(s)) for p, s in zip(owners, others, strict=True)]
            scores = judge_pairs(matched, fit(pairs), owners)
            judged[kind] = Judged(
                accuracy=estimate(scores.accuracy),
                calibration_error=estimate(scores.calibration_error),
            )
        return judged

    def _choose(self, model: Vilbert, test: RegionStates) -> ChosenCaptions:
        dev = prepare_pictures(model, self.dev.parts(model.config.blocks))
        mixture = best_mixture(self._choices(model, dev, self.dev), self.dev.images)
        choices = self._choices(model, test, self.test)
        sets = dict.fromkeys(("own", "chosen"), self.test.images)
        captions = {"own": choose(choices, 0.0), "chosen": choose(choices, mixture)}
        scores = score_sets(sets, captions, with_meteor=False)
        own, chosen = (_by_name(scores[key]) for key in ("own", "chosen"))
        resamples = default_resamples(len(self.test))
        return ChosenCaptions(
            mixture=mixture,
            own={name: estimate(score) for name, score in own.items()},
            chosen={name: estimate(score) for name, score in chosen.items()},
            real=tuple(name for name in own if compare(chosen[name], own[name], resamples).is_real),
        )

    def _choices(self, model: Vilbert, states: RegionStates, gallery: Gallery) -> list[Choices]:
        """Caption each photo ten times, and ask how well each caption fits it."""
        own = self.captioner.info.config.decoding
        options = own.model_copy(
            update={"beam_size": max(own.beam_size, _CAPTIONS), "num_captions": _CAPTIONS}
        )
        texts: list[list[str]] = []
        scores: list[list[float]] = []
        for part in gallery.features:
            found = self.captioner.caption_features(part.to(torch.float32), options)
            for caption in found:
                texts.append([each.text for each in caption.hypotheses])
                scores.append(
                    [
                        each.logprob / (len(each.words) + 1) ** own.length_penalty
                        for each in caption.hypotheses
                    ]
                )
            self.advance(len(part))
        flat = [self.vocabulary.encode(text) for each in texts for text in each]
        owner = np.repeat(np.arange(len(texts)), [len(each) for each in texts])
        pairs = [(int(photo), number) for number, photo in enumerate(owner)]
        fits = fit_logits(model, states, flat, pairs).tolist()
        return [
            Choices(texts[photo], scores[photo], [fits[n] for n in np.flatnonzero(owner == photo)])
            for photo in range(len(texts))
        ]


def _fit(
    model: Vilbert, states: RegionStates, gallery: Gallery
) -> Callable[[Sequence[Pair]], Floats]:
    def fit(pairs: Sequence[Pair]) -> Floats:
        logits: Floats = fit_logits(model, states, gallery.sentences, pairs).numpy()
        return logits

    return fit


def _rank(similarity: Floats, owners: Ints) -> Ranks:
    return Ranks(rank_pictures(similarity, owners), rank_sentences(similarity, owners))


def _retrieved(ranks: Ranks, owners: Ints) -> Retrieved:
    scores = retrieval_scores(ranks, owners)
    both = {way: {score.name: estimate(score) for score in each} for way, each in scores.items()}
    return Retrieved(picture=both["picture"], sentence=both["sentence"])


def _of_blanks(right: Sequence[float]) -> Estimate:
    return estimate(mean_score("hidden regions", right))


def _by_name(scores: Sequence[Score]) -> dict[str, Score]:
    return {score.name: score for score in scores if score.name in _TOLD}
