"""What all matchers' learning has in common: its shape, and what it works with. Knows no loop."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from models.matching.bundle import Matcher
from models.matching.words import pad_sentences
from models.network import CaptioningModel
from models.tokenizer import Vocabulary
from training.annotation import Annotator
from training.data.batching import seeded
from training.data.datasets import CaptionedImage
from training.data.examples import Example
from training.data.masked_words import IGNORED, MaskedWords, mask_one_word, mask_words
from training.matching.config import MatchTrainConfig, PairsStage, WordsStage
from training.matching.losses import masked_word_loss

__all__ = ["Learning", "MatchContext", "WordsLearning", "guessed_words", "weigh"]

MatcherT = TypeVar("MatcherT", bound=Matcher)
BatchT = TypeVar("BatchT")
StageT = TypeVar("StageT", bound=WordsStage | PairsStage)

_DEV_SENTENCES = 1000


@dataclass(frozen=True, slots=True)
class MatchContext(Generic[MatcherT]):
    """What a run works with.

    eyes: the captioner's network, of which encoder and tagger are used and nothing learns.
    dev: the photos that choose. dev_sentences: their captions as ids, in step with `dev`.
    autocast: enters the run's precision.
    """

    config: MatchTrainConfig
    model: MatcherT
    vocabulary: Vocabulary
    eyes: CaptioningModel
    annotator: Annotator
    train: tuple[Example, ...]
    text: tuple[Example, ...]
    dev: Sequence[CaptionedImage]
    dev_sentences: Sequence[Sequence[Sequence[int]]]
    autocast: Callable[[], AbstractContextManager[None]]
    device: torch.device

    @property
    def flat_dev(self) -> list[Sequence[int]]:
        """All captions of the dev photos, one photo's after the other's."""
        return [sentence for own in self.dev_sentences for sentence in own]


class Learning(ABC, Generic[MatcherT, StageT, BatchT]):
    """One stage of one matcher: which examples, which batches, which losses."""

    def __init__(self, stage: StageT, context: MatchContext[MatcherT]) -> None:
        """Choose the examples."""
        self.stage = stage
        self.context = context
        self.model = context.model
        self.chosen = self.examples()

    def examples(self) -> tuple[Example, ...]:
        """Give what the stage learns from, weighed as it says."""
        return weigh(self.context.train, self.stage.weights)

    @abstractmethod
    def prepare(self, indices: Sequence[int], generator: torch.Generator) -> BatchT:
        """Make the batch of `indices` into `chosen`; runs in a second thread, ahead of `losses`."""

    @abstractmethod
    def losses(self, batch: BatchT) -> dict[str, Tensor]:
        """Give the terms of a batch by name, each weighed; their sum is minimized."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Score the model on dev; the mean chooses, higher is better."""

    def state(self) -> dict[str, Tensor]:
        """Give what must go into a saved state beside weights and optimizer."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""

    def mask(self, ids: Tensor, generator: torch.Generator) -> MaskedWords:
        """Hide a share of the words of sentences (R, T)."""
        return mask_words(
            ids,
            self.stage.masked_share,
            mask_id=self.model.table.mask_id,
            vocab_size=self.model.table.vocab_size,
            generator=generator,
        )


class WordsLearning(Learning[Any, WordsStage, MaskedWords]):
    """Sentences alone: masked words, whatever the matcher."""

    def examples(self) -> tuple[Example, ...]:
        """Make an example of each caption of the text and the train sets, without its photo."""
        single = []
        for example in self.context.text + self.context.train:
            for caption in example.captions:
                single.append(replace(example, path=None, captions=(caption,), grounding=()))
        return weigh(single, self.stage.weights)

    def prepare(self, indices: Sequence[int], generator: torch.Generator) -> MaskedWords:
        """Hide words of the captions."""
        sentences = [self.chosen[index].captions[0] for index in indices]
        ids = pad_sentences(sentences, self.context.config.matcher.max_words)
        return self.mask(ids, generator)

    def losses(self, batch: MaskedWords) -> dict[str, Tensor]:
        """Score the hidden words."""
        device = self.context.device
        states = read_alone(self.model, batch.ids.to(device))
        return {"words": masked_word_loss(self.model.table.guess, states, batch.targets.to(device))}

    def validate(self) -> dict[str, float]:
        """Give the share of hidden words of dev captions that are guessed."""
        sentences = self.context.flat_dev[:_DEV_SENTENCES]
        ids = pad_sentences(sentences, self.context.config.matcher.max_words)
        masked = mask_one_word(
            ids, mask_id=self.model.table.mask_id, generator=seeded(self.context.config.seed, 5)
        )
        device = self.context.device
        with torch.inference_mode():
            states = read_alone(self.model, masked.ids.to(device))
        return {"words": guessed_words(self.model, states, masked.targets.to(device))}


def read_alone(model: Matcher, ids: Tensor) -> Tensor:
    """Give the states (R, T, E) of sentences (R, T), read without a picture."""
    read = getattr(model, "read", None)
    if read is not None:
        states: Tensor = read(ids)
        return states
    states = model(ids, None).words
    return states


@torch.inference_mode()
def guessed_words(model: Matcher, states: Tensor, targets: Tensor) -> float:
    """Give the share of hidden words that the model guesses of states (R, T, E)."""
    hidden = targets != IGNORED
    guesses = model.table.guess(states[hidden]).argmax(dim=1)
    return float((guesses == targets[hidden]).float().mean())


def weigh(examples: Sequence[Example], weights: Mapping[str, float]) -> tuple[Example, ...]:
    """Give examples the weights that a stage has for their sets."""
    return tuple(
        replace(example, weight=weights.get(example.source, example.weight)) for example in examples
    )
