"""What a step minimizes, from a decoder and a batch: the terms of its loss. Knows no optimizer and
no files.

B photos, G captions of each, R = B * G rows grouped by photo, T time, L locations, M words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.decoders.base import CaptionDecoder, DecoderOutput
from models.decoding import SpecialIds, suppress_tokens
from models.tokenizer import Vocabulary
from training.config import StageConfig
from training.data.examples import AttentionTargets
from training.losses import (
    MovingBaseline,
    attention_loss,
    caption_loss,
    distillation_loss,
    doubly_stochastic_penalty,
    reinforce_loss,
)

__all__ = ["Objective", "Terms"]


class Terms(NamedTuple):
    """A batch's loss in parts: sums with what they are to be divided by, over all processes.

    loss: summed over `words`. penalty: the mean over captions. taught: summed over `taught_words`.
    reward: summed log-probability (nats) of `rewarded` captions, for the baseline of hard
    attention.
    """

    loss: Tensor
    words: int
    penalty: Tensor
    taught: Tensor
    taught_words: int
    reward: float = 0.0
    rewarded: int = 0


@dataclass(slots=True)
class Objective:
    """The loss of one stage; `baseline` is hard attention's, the only thing that changes.

    `teachers` are distilled from: writers of the same words over the same annotations, in
    evaluation mode.
    """

    stage: StageConfig
    vocabulary: Vocabulary
    baseline: MovingBaseline
    teachers: Sequence[CaptionDecoder] = ()

    def __call__(
        self,
        decoder: CaptionDecoder,
        annotations: Tensor | None,
        ids: Tensor,
        *,
        advantage: Tensor | None = None,
        taught: AttentionTargets | None = None,
    ) -> Terms:
        """Compute the terms for ids (R, T + 1), bos first; unknown words are no target.

        annotations (B, L, D), or None for language alone. advantage (R,): the ids are samples,
        rewarded by it.
        """
        state = _begin(decoder, annotations, len(ids))
        words = ids[:, :-1]
        if self.stage.scheduled_sampling:
            words = self._scheduled_inputs(decoder, words, state)
        output = decoder(words, state)
        targets = ids[:, 1:]
        there = targets != self.vocabulary.pad_id  # (R, T)
        known = there & (targets != self.vocabulary.unk_id)
        logits = decoder.logits(output.readout[known])  # (M, V)
        nothing = logits.new_zeros((), dtype=torch.float32)
        terms = Terms(nothing, int(known.sum()), nothing, nothing, 0)
        if advantage is not None:
            logprobs = suppress_tokens(logits.float(), SpecialIds(), first=False).log_softmax(
                dim=-1
            )
            chosen = logprobs.gather(1, targets[known].unsqueeze(1)).squeeze(1)  # (M,)
            loss = reinforce_loss(chosen, advantage.unsqueeze(1).expand_as(targets)[known])
        else:
            loss = caption_loss(logits, targets[known], label_smoothing=self.stage.label_smoothing)
            if self.teachers:
                believed = self._teacher_probabilities(annotations, words, known)
                share = self.stage.distil_weight
                loss = (1 - share) * loss + share * distillation_loss(logits, believed)
            if output.logprobs is not None and output.entropies is not None:
                terms = self._draws(terms, output, logits, targets, there)
        terms = terms._replace(loss=terms.loss + loss)
        if annotations is not None:
            terms = terms._replace(penalty=doubly_stochastic_penalty(output.alphas, there))
        if taught is not None and len(taught.positions):
            maps = output.alphas.flatten(0, 1)[taught.positions]  # (M, L)
            terms = terms._replace(
                taught=attention_loss(maps, taught.shares), taught_words=len(maps)
            )
        return terms

    @torch.no_grad()
    def _scheduled_inputs(self, decoder: CaptionDecoder, words: Tensor, state: Any) -> Tensor:
        """Put in the place of some words (R, T) what the decoder would have said there: scheduled
        sampling.

        Bengio et al. 2015, in two passes (Mihaylova and Martins 2019): what it says at a place is
        drawn after the true words before it, at all places at once. The first word, bos, and pad
        stay.
        """
        logits = suppress_tokens(
            decoder.logits(decoder(words, state).readout).float(), SpecialIds(), first=True
        )  # (R, T, V)
        said = torch.multinomial(logits.flatten(0, 1).softmax(dim=-1), 1).view(words.shape)
        said = torch.cat(
            [words[:, :1], said[:, :-1]], dim=1
        )  # in step with the words that it replaces
        fixed = (words == self.vocabulary.pad_id) | (words == self.vocabulary.bos_id)
        chosen = torch.rand(words.shape, device=words.device) < self.stage.scheduled_sampling
        return torch.where(chosen & ~fixed, said, words)

    @torch.no_grad()
    def _teacher_probabilities(
        self, annotations: Tensor | None, words: Tensor, known: Tensor
    ) -> Tensor:
        """Give the mean of the teachers' probabilities (M, V) after words (R, T), where the next
        one is `known`."""
        beliefs = []
        for teacher in self.teachers:
            readout = teacher(words, _begin(teacher, annotations, len(words))).readout[known]
            beliefs.append(teacher.logits(readout).float().softmax(dim=-1))
        return torch.stack(beliefs).mean(dim=0)

    def _draws(
        self, terms: Terms, output: DecoderOutput, logits: Tensor, targets: Tensor, there: Tensor
    ) -> Terms:
        """Add what hard attention learns its draws from (Xu et al. 2015, section 4.1, the
        gradient's last two terms).

        lambda_r (log p(y | s, a) - b) log p(s | a) + lambda_e H[s], to be maximized. Every draw
        counts, those before an unknown word too: what was seen there is in all words that follow.
        """
        assert output.logprobs is not None
        assert output.entropies is not None
        known = there & (targets != self.vocabulary.unk_id)
        word_logprobs = (
            logits.detach()
            .float()
            .log_softmax(dim=-1)
            .gather(1, targets[known].unsqueeze(1))
            .squeeze(1)
        )
        reward = (
            torch.zeros(targets.shape, device=targets.device)
            .masked_scatter(known, word_logprobs)
            .sum(dim=1)
        )
        advantage = self.baseline.compare(reward)  # (R,)
        draws = reinforce_loss(
            output.logprobs[there], advantage.unsqueeze(1).expand_as(targets)[there]
        )
        drawn = (
            (output.logprobs.detach() != 0).logical_and(there).any(dim=1)
        )  # the others took the expectation
        return terms._replace(
            loss=self.stage.reward_weight * draws
            - self.stage.entropy_weight * output.entropies[there].sum(),
            reward=float(reward[drawn].sum()),
            rewarded=int(drawn.sum()),
        )


def _begin(decoder: CaptionDecoder, annotations: Tensor | None, rows: int) -> Any:
    """Give the state before the first word: of annotations (B, L, D), R rows grouped by picture;
    None: no picture."""
    if annotations is None:
        return decoder.blank_state(rows)
    pictures = torch.arange(len(annotations), device=annotations.device).repeat_interleave(
        rows // len(annotations)
    )
    return decoder.init_state(annotations).select(pictures)
