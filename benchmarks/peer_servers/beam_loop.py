"""A beam search as one writes it first: a loop in Python over words, photos and hypotheses.

It finds what `models.decoding` finds, by the same rules, and shares no code with it: the decoder's
step is PyTorch, all that comes of it is Python. Letters in shapes: see `models`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from models.config import DecodingOptions
from models.decoders.base import CaptionDecoder
from models.decoding import Constraint
from models.features import ImageFeatures
from models.tokenizer import Vocabulary

__all__ = ["beam_search"]

_CLOSING_LOGPROB = -1e4  # of the end token at the length limit, where the model gives it none


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """An open caption. row: of the decoder's batch."""

    row: int
    ids: tuple[int, ...] = ()
    total: float = 0.0
    constraint: Constraint | None = None


@dataclass(slots=True)
class _Search:
    """The search for one photo's caption."""

    options: DecodingOptions
    open: list[_Hypothesis]
    finished: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)

    def advance(self, logprobs: Tensor, time: int) -> None:
        """Extend the open hypotheses by the scores of all rows, logprobs (R, V)."""
        candidates: list[tuple[float, int, _Hypothesis]] = []
        for hypothesis in self.open:
            scores = logprobs[hypothesis.row].clone()
            if hypothesis.constraint is not None:
                scores[list(hypothesis.constraint.forbidden())] = -torch.inf
            if time == self.options.max_length:
                closing = max(float(scores[Vocabulary.eos_id]), _CLOSING_LOGPROB)
                candidates.append((hypothesis.total + closing, Vocabulary.eos_id, hypothesis))
                continue
            values, ids = scores.topk(min(self.options.beam_size, len(scores)))
            for value, token_id in zip(values.tolist(), ids.tolist(), strict=True):
                if value > -torch.inf:
                    candidates.append((hypothesis.total + value, token_id, hypothesis))
        candidates.sort(key=lambda candidate: -candidate[0])
        self.open = []
        for total, token_id, hypothesis in candidates[: self.options.beam_size]:
            self._keep(total, token_id, hypothesis, time)

    def _keep(self, total: float, token_id: int, hypothesis: _Hypothesis, time: int) -> None:
        if token_id == Vocabulary.eos_id:
            score = total / (time + 1) ** self.options.length_penalty
            self.finished.append((score, hypothesis.ids))
            return
        constraint = hypothesis.constraint
        after = None if constraint is None else constraint.after(token_id)
        self.open.append(_Hypothesis(hypothesis.row, (*hypothesis.ids, token_id), total, after))

    def reorder(self, first: int) -> tuple[list[int], list[int]]:
        """Move the open hypotheses to the rows from `first` on.

        Gives the rows that they come from, and their last words; where there are fewer than beams,
        rows and words that nobody reads.
        """
        width = self.options.beam_size
        rows = [first] * width
        words = [Vocabulary.pad_id] * width
        for place, hypothesis in enumerate(self.open):
            rows[place] = hypothesis.row
            words[place] = hypothesis.ids[-1]
            self.open[place] = replace(hypothesis, row=first + place)
        return rows, words

    def is_over(self) -> bool:
        """Tell whether no open hypothesis can still become the best."""
        longest = self.options.max_length + 1
        best = max((score for score, _ in self.finished), default=-torch.inf)
        bounds = [each.total / longest**self.options.length_penalty for each in self.open]
        return max(bounds, default=-torch.inf) <= best

    def best(self) -> tuple[int, ...]:
        """Give the finished caption with the highest score."""
        return max(self.finished)[1]


@torch.inference_mode()
def beam_search(
    decoder: CaptionDecoder,
    features: ImageFeatures,
    options: DecodingOptions,
    constraints: Sequence[Constraint] = (),
) -> list[tuple[int, ...]]:
    """Find the ids of the best caption of each image, without bos and eos."""
    images, width = len(features), options.beam_size
    first = torch.arange(images).repeat_interleave(width)  # (R,)
    state = decoder.init_state(features.annotations, features.tags).select(first)
    searches = [
        _Search(options, [_Hypothesis(image * width, constraint=constraint)])
        for image, constraint in enumerate(constraints or [None] * images)
    ]
    words = [Vocabulary.bos_id] * (images * width)
    for time in range(options.max_length + 1):
        output = decoder.step(torch.tensor(words), state)
        logprobs = _allowed(output.logits, first=time == 0).log_softmax(dim=-1)  # (R, V)
        rows: list[int] = []
        words = []
        for image, search in enumerate(searches):
            if not search.is_over():
                search.advance(logprobs, time)
            kept, last = search.reorder(image * width)
            rows += kept
            words += last
        if all(search.is_over() for search in searches):
            break
        state = output.state.select(torch.tensor(rows))
    return [search.best() for search in searches]


def _allowed(logits: Tensor, *, first: bool) -> Tensor:
    """Leave out what no caption contains, and at the first word the end."""
    never = [Vocabulary.pad_id, Vocabulary.bos_id, Vocabulary.unk_id]
    if first:
        never.append(Vocabulary.eos_id)
    return logits.index_fill(-1, torch.tensor(never), -torch.inf)
