"""The search for captions: from a decoder that scores next words to the best sentences.

Knows no network, and computes with NumPy alone.

It takes anything that has `init_state` and `step` (the Protocols below): an LSTM, a Transformer, a
toy Markov chain. Beam search runs over a whole batch at once; greedy search is a beam of one.

Letters in shapes: M words that may come next, of which the best are among; the others as in
`models`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from models.array_features import Features
from models.config import DecodingOptions
from models.errors import OptionsError

__all__ = [
    "Constraint",
    "DecodingResult",
    "ScoredCaption",
    "SpecialIds",
    "State",
    "StepDecoder",
    "StepOutput",
    "decode",
    "log_softmax",
]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class State(Protocol):
    """What a decoder carries from word to word: rows, grouped by image, and what is of images."""

    def select(self, indices: Ints, images: Ints | None = None, /) -> Self:
        """Take rows `indices`, as many for each image, grouped by image in the same order.

        images: whose rows these are, by their places among those of the state; None for all.
        """


StateT = TypeVar("StateT", bound=State)


class StepOutput(NamedTuple, Generic[StateT]):
    """What one step gives: logits (R, V), alpha (R, L), beta (R,), and the state after the word.

    The logits are the caller's, to write into. tag_shares (R, W): how much of alpha lies on each
    tag; None where the decoder sees no tags.
    """

    logits: Floats
    alpha: Floats
    beta: Floats
    state: StateT
    tag_shares: Floats | None = None


class StepDecoder(Protocol[StateT]):
    """What decoding needs of a decoder."""

    def init_state(self, features: Features, /) -> StateT:
        """Give a state of B rows, one for each image."""

    def step(self, token_ids: Ints, state: StateT, /) -> StepOutput[StateT]:
        """Read the last words (R,), and score the next ones."""


class SpecialIds(NamedTuple):
    """The ids that the search treats apart; it never emits pad, bos and unk."""

    pad: int = 0
    bos: int = 1
    eos: int = 2
    unk: int = 3

    def suppressed(self, *, first: bool) -> list[int]:
        """List the ids that never come next; eos is one where the word is the first of a caption.

        So a caption is never empty.
        """
        never = [self.pad, self.bos, self.unk]
        return [*never, self.eos] if first else never


class Constraint(Protocol):
    """What a hypothesis may not go on with: a value, made anew with each word."""

    def forbidden(self) -> Collection[int]:
        """List the ids that may not come next; never eos, so that a caption can always end."""

    def after(self, token_id: int, /) -> Self:
        """Give the constraint of the hypothesis with one more word."""


@dataclass(frozen=True, slots=True)
class ScoredCaption:
    """One finished caption of T words.

    token_ids: the words, without bos and eos.
    logprobs: (T + 1,), natural log of the probability of each word and of eos.
    alphas: (T, L), the map of each word. betas: (T,), the gate of its context.
    tag_shares: (T, W), how much of each word's map lies on each tag.
    """

    token_ids: tuple[int, ...]
    logprobs: Floats
    alphas: Floats
    betas: Floats
    tag_shares: Floats

    @property
    def sum_logprob(self) -> float:
        """Log-probability of the whole caption, eos included."""
        return float(self.logprobs.sum())

    @property
    def avg_logprob(self) -> float:
        """Mean log-probability of a token, eos included."""
        return float(self.logprobs.mean())


@dataclass(frozen=True, slots=True)
class DecodingResult:
    """The captions of one image, best first; at least one."""

    captions: tuple[ScoredCaption, ...]


def decode(
    decoder: StepDecoder[StateT],
    features: Features,
    options: DecodingOptions,
    special: SpecialIds = SpecialIds(),
    constraints: Sequence[Constraint] = (),
) -> list[DecodingResult]:
    """Caption every image by beam search, in order.

    constraints: of each image, that of an empty hypothesis; or none at all. What they leave keeps
    the probabilities that the decoder gave. Raises OptionsError where more captions than beams are
    asked for.
    """
    if options.num_captions > options.beam_size:
        raise OptionsError(
            f"num_captions is {options.num_captions}, more than beam_size, which is "
            f"{options.beam_size}: ask for fewer captions or a wider beam."
        )
    if len(features) == 0:
        return []
    search = _BeamSearch(decoder, features, options, special, constraints)
    while search.is_open():
        search.advance()
    return search.results()


def log_softmax(logits: Floats) -> Floats:
    """Give the natural logs of the probabilities that logits (R, V) stand for."""
    return logits - _log_sum_exp(logits)


def _log_sum_exp(logits: Floats) -> Floats:
    """Give what is taken from logits (R, V) to make them log-probabilities, (R, 1)."""
    highest = logits.max(axis=1, keepdims=True)
    total: Floats = highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
    return total


class _Step(NamedTuple):
    """What one step of the search found, of the B images that were open.

    places: (all images,), which of the B an image was; -1 where it was closed.
    alphas (B, K, L), betas (B, K), tag_shares (B, K, W): of the hypotheses that were extended.
    parents, words, logprobs (B, K): which of them each of the best continuations extends, by what.
    """

    places: Ints
    alphas: Floats
    betas: Floats
    tag_shares: Floats
    parents: Ints
    words: Ints
    logprobs: Floats


# Of eos at the length limit: below any real one, and small enough for float32 to keep sums apart.
_LEAST_LOGPROB = -1e4
# Closed images leave the batch as soon as they are this share of it: leaving copies the others.
_CLOSED_SHARE = 0.25
_BLOCK = 16  # how many words are looked at as one, at first


class _BeamSearch(Generic[StateT]):
    """Beam search over a batch, with at most K open and K finished hypotheses an image.

    At each step the K best continuations of an image stay. Those that end with eos are finished,
    and leave their place to others at the next step. A finished caption scores sum_logprob / length
    ** length_penalty, where the length counts eos. At the length limit every open hypothesis is
    closed with eos, so that there always is a caption. The first word is never eos.

    The search of an image stops when no open hypothesis can still enter its `num_captions` best:
    log-probabilities only fall, so an open one cannot exceed its sum over the longest length.

    A hypothesis is a place in a step; its words and maps are gathered at the end, from each step to
    the one before.
    """

    def __init__(
        self,
        decoder: StepDecoder[StateT],
        features: Features,
        options: DecodingOptions,
        special: SpecialIds,
        constraints: Sequence[Constraint],
    ) -> None:
        images, width = len(features), options.beam_size
        self.decoder = decoder
        self.options = options
        self.special = special
        self.constraints = [[each] * width for each in constraints]  # B of K, or none
        self.images = np.arange(images)  # (B,), those in the batch
        self.tags = 0 if features.tags is None else features.tags.values.shape[1]  # W
        self.steps: list[_Step] = []
        rows = np.repeat(np.arange(images), width)
        self.state = decoder.init_state(features).select(rows)
        self.words = np.full((images, width), special.bos, dtype=np.int64)
        self.sums = np.full((images, width), -np.inf)  # (B, K)
        self.sums[:, 0] = 0.0  # all beams start alike: only the first counts
        # of all images, best first: scores (.., K), and the steps and beams where they ended
        self.scores = np.full((images, width), -np.inf)
        self.ends = np.zeros((images, width, 2), dtype=np.int64)

    @property
    def time(self) -> int:
        """How many words have been read."""
        return len(self.steps)

    def is_open(self) -> bool:
        """Tell whether an open hypothesis can still enter any image's best.

        Lets go of images of which none can.
        """
        longest = self.options.max_length + 1
        if self.time == longest:
            return False
        bounds = self.sums.max(axis=1) / longest**self.options.length_penalty  # (B,)
        is_open = bounds > self.scores[self.images, self.options.num_captions - 1]
        if not is_open.any():
            return False
        if np.mean(~is_open) >= _CLOSED_SHARE:
            self._keep(np.flatnonzero(is_open))
        return True

    def _keep(self, places: Ints) -> None:
        """Let go of all images of the batch but those at `places`."""
        rows = np.arange(self.sums.size).reshape(self.sums.shape)[places]
        self.state = self.state.select(rows.reshape(-1), places)
        self.images = self.images[places]
        self.words = self.words[places]
        self.sums = self.sums[places]
        if self.constraints:
            self.constraints = [self.constraints[place] for place in places]

    def advance(self) -> None:
        """Extend every open hypothesis by a word or eos, and finish those that end."""
        images, width = self.sums.shape
        output = self.decoder.step(self.words.reshape(-1), self.state)
        words, logprobs = self._continue(output.logits)  # (R, M)
        totals = self.sums[:, :, np.newaxis] + logprobs.reshape(images, width, -1)
        best = _best_first(totals.reshape(images, -1), width)  # (B, K)
        parents = best // words.shape[1]
        rows = np.arange(images)[:, np.newaxis]
        self.sums = totals.reshape(images, -1)[rows, best]
        self.words = words.reshape(images, -1)[rows, best]
        self._record(output, parents, logprobs.reshape(images, -1)[rows, best])
        self._finish(self.words == self.special.eos)
        self._constrain(parents)
        self.state = output.state.select((rows * width + parents).reshape(-1))

    def _continue(self, logits: Floats) -> tuple[Ints, Floats]:
        """Give the likeliest next words of each hypothesis, and their log-probabilities: (R, M).

        logits: (R, V), written into.
        """
        suppressed = self.special.suppressed(first=not self.steps)
        logits[:, suppressed] = -np.inf
        total = _log_sum_exp(logits)  # (R, 1)
        if self.time == self.options.max_length:
            # eos stays possible even after a word that it never follows
            eos = np.full((len(logits), 1), self.special.eos)
            return eos, np.maximum(logits[:, eos[0]] - total, np.float32(_LEAST_LOGPROB))
        self._forbid(logits)
        words = _top(logits, self.options.beam_size)
        return words, np.take_along_axis(logits, words, axis=1) - total

    def _forbid(self, logits: Floats) -> None:
        """Set logits (R, V) to -inf, in place, where a constraint forbids the word."""
        width = self.options.beam_size
        for image, row in enumerate(self.constraints):
            for beam, constraint in enumerate(row):
                forbidden = constraint.forbidden()
                if forbidden:
                    logits[image * width + beam, list(forbidden)] = -np.inf

    def _constrain(self, parents: Ints) -> None:
        """Let the constraints follow their hypotheses, which extend `parents` (B, K)."""
        if self.constraints:
            pairs = zip(self.constraints, parents.tolist(), self.words.tolist(), strict=True)
            self.constraints = [
                [row[beam].after(word) for beam, word in zip(*kept, strict=True)]
                for row, *kept in pairs
            ]

    def _record(self, output: StepOutput[Any], parents: Ints, logprobs: Floats) -> None:
        images, width = parents.shape
        shape = (images, width)
        places = np.full(len(self.scores), -1)
        places[self.images] = np.arange(images)
        shares = output.tag_shares
        if shares is None:
            shares = np.zeros((images * width, self.tags), dtype=np.float32)
        self.steps.append(
            _Step(
                places,
                output.alpha.reshape(*shape, -1),
                output.beta.reshape(shape),
                shares.reshape(*shape, shares.shape[-1]),
                parents,
                self.words,
                logprobs,
            )
        )

    def _finish(self, ended: npt.NDArray[np.bool_]) -> None:
        """Move the hypotheses that ended (B, K) to the finished, of which an image keeps K."""
        if not ended.any():
            return
        width = ended.shape[1]
        length = self.time  # eos included
        sums = np.where(ended, self.sums, -np.inf)
        scores = sums / length**self.options.length_penalty
        scores = np.concatenate([self.scores[self.images], scores], axis=1)
        here = np.stack(np.broadcast_arrays(self.time - 1, np.arange(width)), axis=-1)
        ends = np.concatenate(
            [self.ends[self.images], np.broadcast_to(here, (*ended.shape, 2))], axis=1
        )
        best = _best_first(scores, width)
        self.scores[self.images] = np.take_along_axis(scores, best, axis=1)
        self.ends[self.images] = np.take_along_axis(ends, best[:, :, np.newaxis], axis=1)
        self.sums = np.where(ended, -np.inf, self.sums)

    def results(self) -> list[DecodingResult]:
        """Gather the finished captions, image by image."""
        return [self._result(image) for image in range(len(self.scores))]

    def _result(self, image: int) -> DecodingResult:
        """Gather the captions of one image; a small vocabulary may give too few."""
        scores = self.scores[image, : self.options.num_captions]
        found = [place for place, score in enumerate(scores) if score > -np.inf]
        return DecodingResult(
            tuple(self._caption(image, *self.ends[image, place].tolist()) for place in found)
        )

    def _caption(self, image: int, time: int, beam: int) -> ScoredCaption:
        """Go back from where a caption ended, step by step, and give it in order."""
        words, logprobs, alphas, betas, shares = [], [], [], [], []
        for step in reversed(self.steps[: time + 1]):
            place = step.places[image]
            words.append(int(step.words[place, beam]))
            logprobs.append(step.logprobs[place, beam])
            beam = int(step.parents[place, beam])
            alphas.append(step.alphas[place, beam])
            betas.append(step.betas[place, beam])
            shares.append(step.tag_shares[place, beam])
        return ScoredCaption(
            tuple(words[:0:-1]),
            np.array(logprobs[::-1], dtype=np.float32),
            np.stack(alphas[:0:-1]),
            np.array(betas[:0:-1], dtype=np.float32),
            np.stack(shares[:0:-1]),
        )


def _top(scores: Floats, count: int) -> Ints:
    """Give where the `count` highest of each row of scores (R, V) are, or all V if there are fewer.

    In no order. Blocks of words are compared by their highest first: the highest words are in the
    highest blocks. So most words are looked at once.
    """
    rows, size = scores.shape
    blocks = size // _BLOCK
    if blocks <= count:
        return _partition(scores, min(count, size))
    whole = blocks * _BLOCK
    highest = scores[:, :whole].reshape(rows, _BLOCK, blocks).max(axis=1)  # (R, blocks)
    chosen = _partition(highest, count)  # block b has the words b, b + blocks, ...
    within = chosen[:, np.newaxis, :] + blocks * np.arange(_BLOCK)[:, np.newaxis]
    rest = np.broadcast_to(np.arange(whole, size), (rows, size - whole))
    likely = np.concatenate([within.reshape(rows, -1), rest], axis=1)
    top = _partition(np.take_along_axis(scores, likely, axis=1), count)
    return np.take_along_axis(likely, top, axis=1)


def _partition(scores: Floats, count: int) -> Ints:
    """Give where the `count` highest of each row are, at most all of them, in no order."""
    size = scores.shape[1]
    return np.argpartition(scores, size - count, axis=1)[:, size - count :]


def _best_first(scores: npt.NDArray[np.floating[Any]], count: int) -> Ints:
    """Give where the `count` highest of each row are, the highest first; of equals the first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]
