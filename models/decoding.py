"""The search for captions: from a decoder that scores next words to the best sentences.

Knows no network.

It takes anything that has `init_state` and `step` (the Protocols below): an LSTM, a Transformer, a
toy Markov chain. Beam search runs over a whole batch at once; greedy search is a beam of one.

Letters in shapes: see `models`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from models.config import DecodingOptions
from models.errors import OptionsError
from models.features import ImageFeatures, Tags

__all__ = [
    "Constraint",
    "DecodingResult",
    "ScoredCaption",
    "SpecialIds",
    "State",
    "StepDecoder",
    "decode",
    "sample",
    "suppress_tokens",
]


class State(Protocol):
    """What a decoder carries from word to word: rows, grouped by image."""

    def select(self, indices: Tensor, /) -> Self:
        """Take rows `indices`, again grouped by image."""


StateT = TypeVar("StateT", bound=State)


class _Output(Protocol[StateT]):  # type: ignore[misc]
    @property
    def logits(self) -> Tensor: ...
    @property
    def alpha(self) -> Tensor: ...
    @property
    def beta(self) -> Tensor: ...
    @property
    def state(self) -> StateT: ...
    @property
    def tag_shares(self) -> Tensor | None: ...


class StepDecoder(Protocol[StateT]):
    """What decoding needs of a decoder."""

    def init_state(self, annotations: Tensor, tags: Tags | None, /) -> StateT:
        """Give a state of B rows, from annotations (B, L, D) and the same images' tags."""

    def step(self, token_ids: Tensor, state: StateT, /) -> _Output[StateT]:
        """Read the last words (R,): logits (R, V), alpha (R, L), beta (R,), and the next state.

        Where it sees tags, also how much of alpha lies on each, (R, W).
        """


class SpecialIds(NamedTuple):
    """The ids that the search treats apart; it never emits pad, bos and unk."""

    pad: int = 0
    bos: int = 1
    eos: int = 2
    unk: int = 3


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
    logprobs: Tensor
    alphas: Tensor
    betas: Tensor
    tag_shares: Tensor

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


@torch.no_grad()
def decode(
    decoder: StepDecoder[StateT],
    features: ImageFeatures,
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
    search = _BeamSearch(decoder, features, options, special, constraints)
    while search.is_open():
        search.advance()
    return search.results()


@torch.no_grad()
def sample(
    decoder: StepDecoder[StateT],
    features: ImageFeatures,
    *,
    count: int,
    max_length: int,
    generator: torch.Generator | None = None,
    special: SpecialIds = SpecialIds(),
) -> Tensor:
    """Draw `count` captions of each image, by the model's probabilities.

    Gives ids (B * count, T), rows grouped by image, T at most max_length + 1. Pad follows eos,
    which a caption of `max_length` words may lack.
    """
    rows = torch.arange(len(features), device=features.device).repeat_interleave(count)
    state = decoder.init_state(features.annotations, features.tags).select(rows)
    words = torch.full_like(rows, special.bos)
    open_rows = torch.ones_like(rows, dtype=torch.bool)
    drawn: list[Tensor] = []
    while len(drawn) <= max_length and bool(open_rows.any()):
        output = decoder.step(words, state)
        state = output.state
        logits = suppress_tokens(output.logits.float(), special, first=not drawn)
        probabilities = logits.softmax(dim=-1)
        words = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
        words = torch.where(open_rows, words, special.pad)
        open_rows = open_rows & (words != special.eos)
        drawn.append(words)
    return torch.stack(drawn, dim=1)


def suppress_tokens(logits: Tensor, special: SpecialIds, *, first: bool) -> Tensor:
    """Set logits (..., V) to -inf for pad, bos and unk, and at the first word also for eos.

    A caption is never empty.
    """
    suppressed = [special.pad, special.bos, special.unk]
    if first:
        suppressed.append(special.eos)
    return logits.index_fill(-1, torch.tensor(suppressed, device=logits.device), -torch.inf)


class _Trace(NamedTuple):
    """The words of each hypothesis, and what is known of each; all are reordered together."""

    tokens: Tensor  # (B, K, T)
    logprobs: Tensor  # (B, K, T)
    alphas: Tensor  # (B, K, T, L)
    betas: Tensor  # (B, K, T)
    tag_shares: Tensor  # (B, K, T, W)

    def take(self, beams: Tensor) -> "_Trace":
        """Reorder beams by indices (B, K')."""
        rows = torch.arange(beams.shape[0], device=beams.device).unsqueeze(1)
        return _Trace(*(part[rows, beams] for part in self))

    def append(self, other: "_Trace") -> "_Trace":
        """Append the beams of another trace."""
        return _Trace(*(torch.cat(pair, dim=1) for pair in zip(self, other, strict=True)))


# Of eos at the length limit: below any real one, and small enough for float32 to keep sums apart.
_LEAST_LOGPROB = -1e4


class _BeamSearch:
    """Beam search over a batch, with at most K open and K finished hypotheses an image.

    At each step the K best continuations of an image stay. Those that end with eos are finished,
    and leave their place to others at the next step. A finished caption scores sum_logprob / length
    ** length_penalty, where the length counts eos. At the length limit every open hypothesis is
    closed with eos, so that there always is a caption. The first word is never eos.

    The search stops when no open hypothesis can still enter any image's `num_captions` best:
    log-probabilities only fall, so an open one cannot exceed its sum over the longest length.
    """

    def __init__(
        self,
        decoder: StepDecoder[StateT],
        features: ImageFeatures,
        options: DecodingOptions,
        special: SpecialIds,
        constraints: Sequence[Constraint],
    ) -> None:
        images, locations, _ = features.annotations.shape
        tags = 0 if features.tags is None else features.tags.values.shape[1]
        width = options.beam_size
        longest = options.max_length + 1
        device = features.device
        self.decoder = decoder
        self.options = options
        self.special = special
        self.constraints = [[constraint] * width for constraint in constraints]  # B of K, or none
        self.rows = torch.arange(images, device=device).unsqueeze(1)  # (B, 1)
        first = decoder.init_state(features.annotations, features.tags)
        self.state = first.select(self.rows.expand(-1, width).flatten())
        self.words = torch.full((images * width,), special.bos, device=device)  # (R,)
        self.sums = torch.full((images, width), -torch.inf, device=device)  # (B, K)
        self.sums[:, 0] = 0.0  # all beams start alike: only the first counts
        self.trace = _Trace(
            torch.full((images, width, longest), special.pad, device=device),
            torch.zeros(images, width, longest, device=device),
            torch.zeros(images, width, longest, locations, device=device),
            torch.zeros(images, width, longest, device=device),
            torch.zeros(images, width, longest, tags, device=device),
        )
        self.finished = self.trace
        self.scores = torch.full((images, width), -torch.inf, device=device)  # (B, K), best first
        self.time = 0

    def is_open(self) -> bool:
        """Tell whether an open hypothesis can still enter any image's best."""
        longest = self.options.max_length + 1
        if self.time == longest:
            return False
        best = self.sums.max(dim=1).values / longest**self.options.length_penalty  # (B,), the bound
        return bool((best > self.scores[:, self.options.num_captions - 1]).any())

    def advance(self) -> None:
        """Extend every open hypothesis by a word or eos, and finish those that end."""
        images, width = self.sums.shape
        output = self.decoder.step(self.words, self.state)
        is_first = self.time == 0
        logits = suppress_tokens(output.logits.float(), self.special, first=is_first)  # (R, V)
        logprobs = logits.log_softmax(dim=-1).view(images, width, -1)  # (B, K, V)
        self._forbid(logprobs)
        if self.time == self.options.max_length:
            logprobs = self._only_eos(logprobs)
        self.trace.alphas[:, :, self.time] = output.alpha.float().view(images, width, -1)
        self.trace.betas[:, :, self.time] = output.beta.float().view(images, width)
        if output.tag_shares is not None:
            self.trace.tag_shares[:, :, self.time] = output.tag_shares.float().view(
                images, width, -1
            )
        beams, words = self._extend(logprobs)
        self._finish(words == self.special.eos)
        self._constrain(beams, words)
        self.words = words.flatten()
        self.state = output.state.select((self.rows * width + beams).flatten())
        self.time += 1

    def _forbid(self, logprobs: Tensor) -> None:
        """Set logprobs (B, K, V) to -inf, in place, where a constraint forbids the word."""
        for image, row in enumerate(self.constraints):
            for beam, constraint in enumerate(row):
                for token_id in constraint.forbidden():
                    logprobs[image, beam, token_id] = -torch.inf

    def _constrain(self, beams: Tensor, words: Tensor) -> None:
        """Let the constraints follow their hypotheses: `words` after `beams`, (B, K) each."""
        if self.constraints:
            pairs = zip(self.constraints, beams.tolist(), words.tolist(), strict=True)
            self.constraints = [
                [row[beam].after(word) for beam, word in zip(*kept, strict=True)]
                for row, *kept in pairs
            ]

    def _only_eos(self, logprobs: Tensor) -> Tensor:
        """Set logprobs (B, K, V) to -inf for all but eos.

        Eos stays possible even after a word that it never follows.
        """
        closing = torch.full_like(logprobs, -torch.inf)
        closing[:, :, self.special.eos] = logprobs[:, :, self.special.eos].clamp(min=_LEAST_LOGPROB)
        return closing

    def _extend(self, logprobs: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the K best continuations by logprobs (B, K, V).

        Gives the beams that they extend and their words, (B, K) each.
        """
        images, width, size = logprobs.shape
        sums = (self.sums.unsqueeze(2) + logprobs).view(images, -1)  # (B, K * V)
        self.sums, flat = sums.topk(width, dim=1)  # (B, K)
        beams = flat // size
        words = flat % size
        self.trace = self.trace.take(beams)
        self.trace.tokens[:, :, self.time] = words
        self.trace.logprobs[:, :, self.time] = logprobs[self.rows, beams, words]
        return beams, words

    def _finish(self, ended: Tensor) -> None:
        """Move the hypotheses that ended (B, K) to the finished, of which an image keeps K."""
        length = self.time + 1
        sums = self.sums.masked_fill(~ended, -torch.inf)
        scores = sums / length**self.options.length_penalty
        self.scores, best = torch.cat([self.scores, scores], dim=1).topk(scores.shape[1], dim=1)
        self.finished = self.finished.append(self.trace).take(best)
        self.sums = self.sums.masked_fill(ended, -torch.inf)

    def results(self) -> list[DecodingResult]:
        """Unpack the finished captions, image by image."""
        return [self._result(image) for image in range(len(self.scores))]

    def _result(self, image: int) -> DecodingResult:
        """Unpack the captions of one image; a small vocabulary may give too few."""
        scores = self.scores[image, : self.options.num_captions].tolist()
        beams = [beam for beam, score in enumerate(scores) if score > -torch.inf]
        return DecodingResult(tuple(self._caption(image, beam) for beam in beams))

    def _caption(self, image: int, beam: int) -> ScoredCaption:
        token_ids, logprobs, alphas, betas, shares = (part[image, beam] for part in self.finished)
        tokens = token_ids.tolist()
        length = tokens.index(self.special.eos)
        return ScoredCaption(
            tuple(tokens[:length]),
            logprobs[: length + 1].cpu(),
            alphas[:length].cpu(),
            betas[:length].cpu(),
            shares[:length].cpu(),
        )
