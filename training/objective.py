"""The terms of a step's loss, from a decoder and a batch. Knows no optimizer and no files.

B images, G captions of each, R = B * G rows grouped by image, T time, L locations, M words,
V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.decoders.base import CaptionDecoder, DecoderOutput
from models.decoding import SpecialIds
from models.features import ImageFeatures, Tags
from models.sampling import suppress_tokens
from models.tokenizer import Vocabulary
from training.data.batching import AttentionTargets
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
    """A batch's loss in parts: sums, and what they are to be divided by over all processes.

    loss: summed over `words`.
    penalty: the mean over `captions`; weighed by `alpha_c`.
    attention: summed over `attention_words`; weighed by `attention_weight`.
    reward: summed log-probability (nats) of `rewarded` captions, for the baseline of hard
        attention.
    """

    loss: Tensor
    words: int
    captions: int
    penalty: Tensor
    attention: Tensor
    attention_words: int = 0
    reward: float = 0.0
    rewarded: int = 0
    alpha_c: float = 0.0
    attention_weight: float = 0.0


@dataclass(slots=True, kw_only=True)
class Objective:
    """The loss of a stage; the options are those of its `StageConfig`.

    baseline: hard attention's.
    teachers: distilled from; decoders of the same words over the same annotations, in evaluation
        mode.
    """

    vocabulary: Vocabulary
    baseline: MovingBaseline
    teachers: Sequence[CaptionDecoder] = ()
    label_smoothing: float = 0.0
    scheduled_sampling: float = 0.0
    distil_weight: float = 0.5
    reward_weight: float = 1.0
    entropy_weight: float = 0.01
    alpha_c: float = 0.0
    attention_loss_weight: float = 0.0

    def __call__(
        self,
        decoder: CaptionDecoder,
        features: ImageFeatures | None,
        ids: Tensor,
        *,
        advantage: Tensor | None = None,
        attention_targets: AttentionTargets | None = None,
        tags: Tags | None = None,
        whole: ImageFeatures | None = None,
    ) -> Terms:
        """Compute the terms for ids (R, T + 1), bos first; unknown words are no target.

        features: of B images, or None for language alone, which may have tags of each row.
        whole: what teachers see of the images; None is the same.
        advantage (R,): the ids are samples, rewarded by it.
        """
        state = _first_state(decoder, features, len(ids), tags)
        words = ids[:, :-1]
        if self.scheduled_sampling:
            words = self._scheduled_inputs(decoder, words, state)
        output = decoder(words, state)
        targets = ids[:, 1:]
        there = targets != self.vocabulary.pad_id  # (R, T)
        known = there & (targets != self.vocabulary.unk_id)
        logits = _logits(decoder, output, known)  # (M, V)
        if advantage is not None:
            loss = _sample_loss(logits, targets[known], _by_word(advantage, known))
        else:
            shown = features if whole is None else whole
            loss = self._caption_loss(logits, targets[known], shown, words, known)
        terms = self._word_terms(loss, words=int(known.sum()), captions=int(there[:, 0].sum()))
        if advantage is None and output.logprobs is not None and output.entropies is not None:
            terms = self._add_draws(terms, output, logits, targets, there)
        if features is not None:
            terms = terms._replace(penalty=doubly_stochastic_penalty(output.alphas, there))
        if attention_targets is not None and len(attention_targets.positions):
            terms = _add_attention(terms, output, attention_targets)
        return terms

    def _word_terms(self, loss: Tensor, *, words: int, captions: int) -> Terms:
        """Give the terms of words alone: maps add nothing yet."""
        nothing = loss.new_zeros((), dtype=torch.float32)
        return Terms(
            loss=loss,
            words=words,
            captions=captions,
            penalty=nothing,
            attention=nothing,
            alpha_c=self.alpha_c,
            attention_weight=self.attention_loss_weight,
        )

    def _caption_loss(
        self,
        logits: Tensor,
        targets: Tensor,
        features: ImageFeatures | None,
        words: Tensor,
        known: Tensor,
    ) -> Tensor:
        """Score logits (M, V) against people's words (M,), and against the teachers, if any."""
        loss = caption_loss(logits, targets, label_smoothing=self.label_smoothing)
        if not self.teachers:
            return loss
        soft_targets = self._teacher_probabilities(features, words, known)
        share = self.distil_weight
        return (1 - share) * loss + share * distillation_loss(logits, soft_targets)

    @torch.no_grad()
    def _scheduled_inputs(self, decoder: CaptionDecoder, words: Tensor, state: Any) -> Tensor:
        """Replace some words (R, T) by what the decoder would have said there: scheduled sampling.

        Bengio et al. 2015, in two passes (Mihaylova and Martins 2019): what it says at a place is
        drawn after the true words before it, at all places at once. The first word, bos, and pad
        stay.
        """
        fixed = (words == self.vocabulary.pad_id) | (words == self.vocabulary.bos_id)
        chosen = torch.rand(words.shape, device=words.device) < self.scheduled_sampling
        chosen = chosen & ~fixed
        before = chosen.roll(-1, dims=1)  # where each was said: bos, the first, is never chosen
        if not before.any():
            return words
        logits = _logits(decoder, decoder(words, state), before).float()  # (M, V)
        logits = suppress_tokens(logits, SpecialIds(), first=True)
        said = torch.multinomial(logits.softmax(dim=-1), 1).squeeze(1)
        return words.masked_scatter(chosen, said)

    @torch.no_grad()
    def _teacher_probabilities(
        self, features: ImageFeatures | None, words: Tensor, known: Tensor
    ) -> Tensor:
        """Give the mean of the teachers' probabilities (M, V) where the next word is `known`.

        words (R, T): those before.
        """
        probabilities = []
        for teacher in self.teachers:
            state = _first_state(teacher, features, len(words))
            logits = _logits(teacher, teacher(words, state), known)
            probabilities.append(logits.float().softmax(dim=-1))
        return torch.stack(probabilities).mean(dim=0)

    def _add_draws(
        self, terms: Terms, output: DecoderOutput, logits: Tensor, targets: Tensor, there: Tensor
    ) -> Terms:
        """Add what hard attention learns its draws from (Xu et al. 2015, section 4.1).

        lambda_r (log p(y | s, a) - b) log p(s | a) + lambda_e H[s], to be maximized. Every draw
        counts, those before an unknown word too: all words that follow depend on it.
        """
        assert output.logprobs is not None
        assert output.entropies is not None
        known = there & (targets != self.vocabulary.unk_id)
        logprobs = logits.detach().float().log_softmax(dim=-1)
        chosen = logprobs.gather(1, targets[known].unsqueeze(1)).squeeze(1)  # (M,)
        zeros = torch.zeros(targets.shape, device=targets.device)
        reward = zeros.masked_scatter(known, chosen).sum(dim=1)  # (R,)
        advantages = _by_word(self.baseline.compare(reward), there)
        draws = reinforce_loss(output.logprobs[there], advantages)
        entropy = output.entropies[there].sum()
        # a row without draws took the expectation
        drawn = (output.logprobs.detach() != 0).logical_and(there).any(dim=1)
        added = self.reward_weight * draws - self.entropy_weight * entropy
        return terms._replace(
            loss=added + terms.loss, reward=float(reward[drawn].sum()), rewarded=int(drawn.sum())
        )


def _add_attention(terms: Terms, output: DecoderOutput, targets: AttentionTargets) -> Terms:
    """Add the loss on the maps that have targets."""
    maps = output.alphas.flatten(0, 1)[targets.positions]  # (M, L)
    return terms._replace(attention=attention_loss(maps, targets.shares), attention_words=len(maps))


def _by_word(advantage: Tensor, known: Tensor) -> Tensor:
    """Give each of the M words that are `known` (R, T) its caption's advantage (R,)."""
    return advantage.unsqueeze(1).expand_as(known)[known]


def _sample_loss(logits: Tensor, samples: Tensor, advantages: Tensor) -> Tensor:
    """Reward sampled words (M,), drawn from logits (M, V), by their captions' advantages (M,)."""
    logprobs = suppress_tokens(logits.float(), SpecialIds(), first=False).log_softmax(dim=-1)
    return reinforce_loss(logprobs.gather(1, samples.unsqueeze(1)).squeeze(1), advantages)


def _logits(decoder: CaptionDecoder, output: DecoderOutput, chosen: Tensor) -> Tensor:
    """Score the vocabulary (M, V) at the M places of `chosen` (R, T)."""
    copies = None if output.copies is None else output.copies.at(chosen)
    return decoder.logits(output.readout[chosen], copies)


def _first_state(
    decoder: CaptionDecoder, features: ImageFeatures | None, rows: int, tags: Tags | None = None
) -> Any:
    """Give the state before the first word, for R rows grouped by image.

    Without features it is blank, but for tags of each row.
    """
    if features is None:
        return decoder.blank_state(rows, tags)
    images = torch.arange(len(features), device=features.device)
    return decoder.init_state(features.annotations, features.tags).select(
        images.repeat_interleave(rows // len(features))
    )
