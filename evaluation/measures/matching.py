"""What matching models guess and tell: masked words, hidden regions, and which pairs fit.

Every measure is a `Score` over photos, so that it can be resampled. Knows no files.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.gallery import Gallery
from evaluation.measures.retrieval import Floats, Ints, nearest_sentences
from evaluation.metrics.score import Score, Values, ratio_score
from models.matching.vilbert import Vilbert
from models.matching.vl_bert import VlBert
from models.matching.words import pad_sentences
from training.data.batching import seeded
from training.data.blanks import Blank, phrase_blank
from training.data.examples import Example
from training.data.masked_words import IGNORED, MaskedWords, hide_words, mask_one_word

__all__ = [
    "NEAREST",
    "PairScores",
    "find_blanks",
    "guess_regions",
    "guess_words",
    "judge_pairs",
    "mismatch",
    "most_frequent_answer",
]

NEAREST = 100
"""Hard mismatches are drawn from so many nearest captions."""

_BINS = 15
_SEED = 0

Joint = Vilbert | VlBert


@dataclass(frozen=True, slots=True)
class PairScores:
    """How well a model tells which pairs fit: accuracy at one half, and its calibration error."""

    accuracy: Score
    calibration_error: Score


# -- masked words ----


@torch.inference_mode()
def guess_words(model: Joint, gallery: Gallery, *, with_pictures: bool) -> Score:
    """Hide one word of each caption, and score the share that is guessed, over photos.

    The same words are hidden for every model, with pictures and without.
    """
    totals = np.zeros(len(gallery))
    counts = np.zeros(len(gallery))
    first = 0
    for regions in gallery.parts(model.config.blocks):
        numbers = gallery.captions_of(first, len(regions))
        owners = gallery.owners[numbers]
        masked = _hide_one(model, gallery, numbers, first)
        pictures = None
        if with_pictures:
            pictures = model.prepare(regions).select(torch.from_numpy(owners - first))
        states = model(masked.ids, pictures).words
        right, rows = _guessed(model, states, masked)
        np.add.at(totals, owners[rows], right)
        np.add.at(counts, owners[rows], 1.0)
        first += len(regions)
    return ratio_score("masked words", totals, counts)


def _hide_one(model: Joint, gallery: Gallery, numbers: Sequence[int], first: int) -> MaskedWords:
    sentences = [gallery.sentences[number] for number in numbers]
    ids = pad_sentences(sentences, model.config.max_words)
    generator = seeded(_SEED, first)
    return mask_one_word(ids, mask_id=model.table.mask_id, generator=generator)


def _guessed(model: Joint, states: Tensor, masked: MaskedWords) -> tuple[Values, Ints]:
    """Tell of each hidden word whether it was guessed, and which sentence it stands in."""
    hidden = masked.targets != IGNORED
    guesses = model.table.guess(states[hidden]).argmax(dim=1)
    right: Values = (guesses == masked.targets[hidden]).double().numpy()
    rows: Ints = hidden.nonzero()[:, 0].numpy()
    return right, rows


# -- hidden regions ----


def find_blanks(examples: Sequence[Example]) -> list[Blank]:
    """Choose a box of each photo that has phrases with boxes."""
    found = (phrase_blank(number, example, _SEED) for number, example in enumerate(examples))
    return [each for each in found if each is not None]


def most_frequent_answer(blanks: Sequence[Blank]) -> int:
    """Give the word that is to be guessed most often: what a guess without looking would be."""
    return Counter(each.answers[0] for each in blanks).most_common(1)[0][0]


@torch.inference_mode()
def guess_regions(
    model: Joint,
    gallery: Gallery,
    blanks: Sequence[Blank],
    examples: Sequence[Example],
    advance: Callable[[int], object],
) -> list[float]:
    """Tell of each blank, in order, whether one of its words is guessed: 1.0 or 0.0.

    The caption beside it has those words masked.
    """
    right = []
    for asked, regions in gallery.hidden(blanks, model.config.blocks, advance):
        sentences = [
            hide_words(
                examples[each.example].captions[each.caption], each.answers, model.table.mask_id
            )
            for each in asked
        ]
        ids = pad_sentences(sentences, model.config.max_words)
        states = model(ids, model.prepare(regions)).regions
        assert states is not None  # there are pictures
        guesses = model.table.guess(states[:, -1]).argmax(dim=1).tolist()
        right += [float(guess in each.answers) for guess, each in zip(guesses, asked, strict=True)]
    return right


# -- pairs ----


def mismatch(similarity: Floats, owners: Ints, *, hard: bool) -> Ints:
    """Give for each photo as many captions of others as it has itself, (S,) in step with `owners`.

    Drawn from all others, or from the hundred most similar.
    """
    generator = np.random.default_rng(_SEED)
    count = min(NEAREST, len(owners) - int(np.bincount(owners).max()))
    nearest = nearest_sentences(similarity, owners, count) if hard else None
    chosen = np.empty_like(owners)
    for place, owner in enumerate(owners):
        others = np.flatnonzero(owners != owner) if nearest is None else nearest[owner]
        chosen[place] = generator.choice(others)
    return chosen


def judge_pairs(matched: Floats, mismatched: Floats, owners: Ints) -> PairScores:
    """Score logits of the matched and the mismatched pairs (S,) each, over the photos of `owners`.

    The calibration error is that of Naeini et al. 2015, with bins of equal width, of the
    probability that a pair fits.
    """
    photos = int(owners.max()) + 1
    both = np.concatenate([owners, owners])
    probability = 1 / (1 + np.exp(-np.concatenate([matched, mismatched]).astype(np.float64)))
    truth = np.concatenate([np.ones(len(matched)), np.zeros(len(mismatched))])
    right = ((probability >= 0.5) == (truth == 1)).astype(np.float64)
    counts = np.bincount(both, minlength=photos).astype(np.float64)
    totals = np.zeros(photos)
    np.add.at(totals, both, right)
    statistics = np.zeros((photos, _BINS + 1))
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    np.add.at(statistics, (both, bins), probability - truth)
    statistics[:, -1] = counts
    return PairScores(
        ratio_score("accuracy", totals, counts), Score.of("ECE", statistics, _calibration_error)
    )


def _calibration_error(sums: Values) -> Values:
    """Give the error of sums (..., bins + 1): each bin's excess of belief, then how many pairs."""
    errors: Values = np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1]
    return errors
