"""The search for a caption: from a decoder that scores next words to the best sentences. Knows no
network.

It talks to anything that has `init_state` and `step` (the Protocols below): an LSTM, a Transformer,
a toy Markov chain. Beam search runs over a whole batch at once; greedy search is a beam of one.

B pictures, K beams, R = B * K rows grouped by picture, T time, L locations, V vocabulary.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from models.config import DecodingOptions
from models.errors import OptionsError

__all__ = [
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
        """Take rows `indices`, again grouped by picture."""


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


class StepDecoder(Protocol[StateT]):
    """What decoding needs of a decoder."""

    def init_state(self, annotations: Tensor, /) -> StateT:
        """From annotations (B, L, D): a state of B rows."""

    def step(self, token_ids: Tensor, state: StateT, /) -> _Output[StateT]:
        """Read last words (R,): logits (R, V), alpha (R, L), beta (R,), and the next state."""


class SpecialIds(NamedTuple):
    """Ids with a meaning for the search; pad, bos and unk are never emitted."""

    pad: int = 0
    bos: int = 1
    eos: int = 2
    unk: int = 3


@dataclass(frozen=True, slots=True)
class ScoredCaption:
    """One finished caption of T words.

    token_ids: the words, without bos and eos. logprobs (T + 1,): natural log of each word's
    probability, and of eos's. alphas (T, L) and betas (T,): where each word looked, and how far the
    context was let in.
    """

    token_ids: tuple[int, ...]
    logprobs: Tensor
    alphas: Tensor
    betas: Tensor

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
    """The captions of one picture, best first; at least one."""

    captions: tuple[ScoredCaption, ...]


@torch.no_grad()
def decode(
    decoder: StepDecoder[StateT],
    annotations: Tensor,
    options: DecodingOptions,
    special: SpecialIds = SpecialIds(),
) -> list[DecodingResult]:
    """Caption every picture of annotations (B, L, D) by beam search; in order.

    Raises OptionsError where more captions than beams are asked for.
    """
    if options.num_captions > options.beam_size:
        raise OptionsError(
            f"num_captions is {options.num_captions}, more than beam_size, which is "
            f"{options.beam_size}: "
            "ask for fewer captions or a wider beam."
        )
    search = _BeamSearch(decoder, annotations, options, special)
    while search.is_open():
        search.advance()
    return search.results()


@torch.no_grad()
def sample(
    decoder: StepDecoder[StateT],
    annotations: Tensor,
    *,
    count: int,
    max_length: int,
    generator: torch.Generator | None = None,
    special: SpecialIds = SpecialIds(),
) -> Tensor:
    """Draw `count` captions of each picture of annotations (B, L, D) from the model's own
    distribution.

    Gives ids (B * count, T), rows grouped by picture, T at most max_length + 1; pad follows eos,
    which a caption of `max_length` words may lack.
    """
    pictures, device = annotations.shape[0], annotations.device
    rows = torch.arange(pictures, device=device).repeat_interleave(count)
    state = decoder.init_state(annotations).select(rows)
    words = torch.full_like(rows, special.bos)
    open_rows = torch.ones_like(rows, dtype=torch.bool)
    drawn: list[Tensor] = []
    while len(drawn) <= max_length and bool(open_rows.any()):
        output = decoder.step(words, state)
        state = output.state
        probabilities = suppress_tokens(output.logits.float(), special, first=not drawn).softmax(
            dim=-1
        )
        words = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
        words = torch.where(open_rows, words, special.pad)
        open_rows = open_rows & (words != special.eos)
        drawn.append(words)
    return torch.stack(drawn, dim=1)


def suppress_tokens(logits: Tensor, special: SpecialIds, *, first: bool) -> Tensor:
    """Bar what may never be emitted, and at the first word an empty caption: logits (..., V)
    with -inf there."""
    barred = [special.pad, special.bos, special.unk] + ([special.eos] if first else [])
    return logits.index_fill(-1, torch.tensor(barred, device=logits.device), -torch.inf)


class _Trace(NamedTuple):
    """What is kept of each hypothesis, one row per word: gathered as one when beams are
    reordered."""

    tokens: Tensor  # (B, K, T)
    logprobs: Tensor  # (B, K, T)
    alphas: Tensor  # (B, K, T, L)
    betas: Tensor  # (B, K, T)

    def take(self, beams: Tensor) -> "_Trace":
        """Reorder beams by indices (B, K')."""
        rows = torch.arange(beams.shape[0], device=beams.device).unsqueeze(1)
        return _Trace(*(part[rows, beams] for part in self))

    def append(self, other: "_Trace") -> "_Trace":
        """Set another trace's beams behind these."""
        return _Trace(*(torch.cat(pair, dim=1) for pair in zip(self, other, strict=True)))


_LEAST_LOGPROB = (
    -1e4
)  # of eos at the length limit: below any real one, and small enough to keep sums apart


class _BeamSearch:
    """Beam search over a batch: `open` hypotheses grow, `finished` ones wait, ranked, K of each per
    picture.

    At each step the K best continuations of a picture stay, and those of them that end with eos are
    finished: their place is free for others at the next step. A finished caption scores sum_logprob
    / length ** length_penalty, its length counting eos. At the length limit every open hypothesis
    is closed with eos, so that there always is a caption. The first word is never eos. The search
    stops when no open hypothesis can still enter any picture's `num_captions` best:
    log-probabilities only fall, so an open one cannot exceed its sum over the longest length.
    """

    def __init__(
        self,
        decoder: StepDecoder[StateT],
        annotations: Tensor,
        options: DecodingOptions,
        special: SpecialIds,
    ) -> None:
        pictures, locations, _ = annotations.shape
        width, longest = options.beam_size, options.max_length + 1
        device = annotations.device
        self.decoder, self.options, self.special = decoder, options, special
        self.rows = torch.arange(pictures, device=device).unsqueeze(1)  # (B, 1)
        self.state = decoder.init_state(annotations).select(self.rows.expand(-1, width).flatten())
        self.words = torch.full((pictures * width,), special.bos, device=device)  # (R,)
        self.sums = torch.full((pictures, width), -torch.inf, device=device)  # (B, K)
        self.sums[:, 0] = 0.0  # all beams start alike: only the first counts
        self.trace = _Trace(
            torch.full((pictures, width, longest), special.pad, device=device),
            torch.zeros(pictures, width, longest, device=device),
            torch.zeros(pictures, width, longest, locations, device=device),
            torch.zeros(pictures, width, longest, device=device),
        )
        self.finished = self.trace
        self.scores = torch.full((pictures, width), -torch.inf, device=device)  # (B, K), best first
        self.time = 0

    def is_open(self) -> bool:
        """Tell whether a longer hypothesis could still enter any picture's list."""
        longest = self.options.max_length + 1
        if self.time == longest:
            return False
        best = self.sums.max(dim=1).values / longest**self.options.length_penalty  # (B,), the bound
        return bool((best > self.scores[:, self.options.num_captions - 1]).any())

    def advance(self) -> None:
        """Grow every open hypothesis by one word or eos, and file those that end."""
        pictures, width = self.sums.shape
        output = self.decoder.step(self.words, self.state)
        logits = suppress_tokens(
            output.logits.float(), self.special, first=self.time == 0
        )  # (R, V)
        logprobs = logits.log_softmax(dim=-1).view(pictures, width, -1)  # (B, K, V)
        if self.time == self.options.max_length:
            logprobs = self._only_eos(logprobs)
        self.trace.alphas[:, :, self.time] = output.alpha.float().view(pictures, width, -1)
        self.trace.betas[:, :, self.time] = output.beta.float().view(pictures, width)
        beams, words = self._grow(logprobs)
        self._finish(words == self.special.eos)
        self.words = words.flatten()
        self.state = output.state.select((self.rows * width + beams).flatten())
        self.time += 1

    def _only_eos(self, logprobs: Tensor) -> Tensor:
        """Leave eos alone possible in logprobs (B, K, V), even after a word that it never
        follows."""
        closing = torch.full_like(logprobs, -torch.inf)
        closing[:, :, self.special.eos] = logprobs[:, :, self.special.eos].clamp(min=_LEAST_LOGPROB)
        return closing

    def _grow(self, logprobs: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the K best continuations by logprobs (B, K, V): the beams they extend and their
        words, (B, K) each."""
        pictures, width, size = logprobs.shape
        self.sums, flat = (
            (self.sums.unsqueeze(2) + logprobs).view(pictures, -1).topk(width, dim=1)
        )  # (B, K)
        beams, words = flat // size, flat % size
        self.trace = self.trace.take(beams)
        self.trace.tokens[:, :, self.time] = words
        self.trace.logprobs[:, :, self.time] = logprobs[self.rows, beams, words]
        return beams, words

    def _finish(self, ended: Tensor) -> None:
        """Move the hypotheses that ended (B, K) among the finished, of which each picture keeps
        its K best."""
        scores = (
            self.sums.masked_fill(~ended, -torch.inf)
            / (self.time + 1) ** self.options.length_penalty
        )
        self.scores, best = torch.cat([self.scores, scores], dim=1).topk(scores.shape[1], dim=1)
        self.finished = self.finished.append(self.trace).take(best)
        self.sums = self.sums.masked_fill(ended, -torch.inf)

    def results(self) -> list[DecodingResult]:
        """Unpack the finished captions, picture by picture."""
        tokens, scores = self.finished.tokens.tolist(), self.scores.tolist()
        return [
            DecodingResult(
                tuple(
                    self._caption(picture, beam, tokens[picture][beam])
                    for beam in range(self.options.num_captions)
                    if scores[picture][beam]
                    > -torch.inf  # a small vocabulary may have fewer captions than asked for
                )
            )
            for picture in range(len(tokens))
        ]

    def _caption(self, picture: int, beam: int, tokens: list[int]) -> ScoredCaption:
        length = tokens.index(self.special.eos)
        _, logprobs, alphas, betas = (part[picture, beam] for part in self.finished)
        return ScoredCaption(
            tuple(tokens[:length]),
            logprobs[: length + 1].cpu(),
            alphas[:length].cpu(),
            betas[:length].cpu(),
        )
