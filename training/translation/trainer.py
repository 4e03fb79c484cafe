"""The loop that trains a translator: batches, step, average, validate, save.

Knows no command line. Every random draw is seeded by epoch and step, and the whole state is saved
every few minutes, so that a killed run goes on to the same result as an unbroken one.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from evaluation.metrics.translation import translation_bleu
from models.translation.checkpoint import own_tensors, with_second_names
from models.translation.config import TranslationConfig
from models.translation.network import TranslationModel
from models.translation.subwords import PAD, Subwords, as_captioned
from models.translation.torch_runtime import TorchTranslationRuntime
from models.translation.translator import Translator
from training.data.batching import seeded
from training.data.pairs import SentencePair
from training.ema import WeightAverage
from training.losses import caption_loss
from training.optimizer import build_adamw, rate_at
from training.run_log import RunLog
from training.run_state import (
    load_state,
    optimizer_tensors,
    progress_numbers,
    read_progress,
    restore_optimizer,
    save_state,
)
from training.translation.batches import PairBatch, PairBatches, token_batches
from training.translation_config import TranslateConfig

__all__ = ["TranslationData", "TranslationTrainer"]

Tensors = dict[str, dict[str, Tensor]]  # by group and name

_RECENT = "recent-"


@dataclass(frozen=True, slots=True)
class TranslationData:
    """What a run learns from and chooses by. dev: pairs by the name of their set."""

    batches: PairBatches
    dev: Mapping[str, Sequence[SentencePair]]
    source: Subwords
    target: Subwords


@dataclass(slots=True)
class Progress:
    """Where a run stands; all of it goes into the saved state.

    step: within the epoch. best: dev BLEU of the best weights.
    """

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    bad_validations: int = 0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class TranslationTrainer:
    """Trains one translator in one process."""

    def __init__(
        self,
        config: TranslateConfig,
        data: TranslationData,
        model: TranslationModel,
        described: TranslationConfig,
        device: torch.device,
        run_log: RunLog,
    ) -> None:
        """Take a freshly built `model`. run_log: its folder receives states."""
        self.config = config
        self.data = data
        self.device = device
        self.described = described
        self.network = model.to(device)
        self.run_log = run_log
        self.folder = run_log.folder
        training = config.training
        parts = ((self.network, training.learning_rate),)
        self.optimizer = build_adamw(parts, training.weight_decay)
        self.average = WeightAverage(self.network, training.ema_decay)
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.recent: list[dict[str, Tensor]] = []
        self.saved_at = time.monotonic()
        runtime = TorchTranslationRuntime(self.network)
        self.translator = Translator(runtime, described, data.source, data.target)

    # ------------------------------------------------------------------ the run

    def run(self) -> dict[str, Tensor]:
        """Train to the end, from where the last state stands; give the best weights (float32)."""
        self._resume()
        progress = self.progress
        training = self.config.training
        steps = [len(self._batches(epoch)) for epoch in range(training.epochs)]
        while progress.epoch < training.epochs and progress.bad_validations < training.patience:
            self._train_epoch(done=sum(steps[: progress.epoch]), total=sum(steps))
            is_last = progress.epoch + 1 == training.epochs
            if is_last or (progress.epoch + 1) % training.validate_every == 0:
                self._validate()
            progress.epoch += 1
            progress.step = 0
            self._save()
        if not progress.finished:
            self._try_mean()
            progress.finished = True
            self._save()
        return self.best

    def _train_epoch(self, *, done: int, total: int) -> None:
        """Take the epoch's steps, from `progress.step` on; `done` of `total` came before it."""
        progress = self.progress
        training = self.config.training
        self.network.train()
        batches = self._batches(progress.epoch)
        rest = batches[progress.step :]
        title = f"translation {progress.epoch + 1}/{training.epochs}"
        with self.run_log.bar(title, sum(map(len, rest)), "pair") as bar:
            for step, indices in enumerate(rest, progress.step):
                rate = rate_at(
                    (done + step) / max(total, 1),
                    warmup_fraction=training.warmup_fraction,
                    final_fraction=training.final_fraction,
                )
                batch = self.data.batches.prepare(indices, self._seeded(step, 2))
                loss = self._step(batch.to(self.device), step, rate)
                self.run_log.step("train/translation", loss=loss, rate=rate)
                bar.update(len(indices))
                progress.step = step + 1
                if time.monotonic() - self.saved_at > self.config.checkpoint_minutes * 60:
                    self._save()

    def _step(self, batch: PairBatch, step: int, rate: float) -> float:
        """Take one step; give the loss of a subword, in nats."""
        torch.manual_seed(self._seeded(step, 7).initial_seed())
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["base_rate"]
        targets = batch.target[:, 1:]  # (B, T)
        counts = targets != PAD
        readout = self.network(batch.source, batch.target[:, :-1]).readout
        logits = self.network.decoder.logits(readout[counts])  # (M, V)
        smoothing = self.config.training.label_smoothing
        loss = caption_loss(logits, targets[counts], label_smoothing=smoothing) / counts.sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.training.clip_norm)
        self.optimizer.step()
        self.average.update(self.network)
        return float(loss.item())

    def _batches(self, epoch: int) -> list[list[int]]:
        generator = seeded(self.config.seed, epoch, 1)
        examples = self.data.batches.examples
        return token_batches(examples, self.config.training.batch_tokens, generator)

    def _seeded(self, *parts: int) -> torch.Generator:
        """Give a generator that depends on the epoch and `parts` alone."""
        return seeded(self.config.seed, self.progress.epoch, *parts)

    # ------------------------------------------------------------------ validating and saving

    def _validate(self) -> None:
        """Score the averaged weights on dev, and keep them where they are the best."""
        progress = self.progress
        weights = self.average.copy()
        self.recent = [*self.recent, weights][-self.config.training.mean_of_last :]
        scores = self._scores(weights)
        progress.history.append({"epoch": progress.epoch, **scores})
        self.run_log.epoch("dev BLEU", scores, progress.history)
        if _mean(scores) > progress.best:
            progress.best = _mean(scores)
            progress.bad_validations = 0
            self.best = weights
        else:
            progress.bad_validations += 1

    def _try_mean(self) -> None:
        """Take the mean of the last validated weights where it is better on dev.

        Vaswani et al. 2017, section 6.1.
        """
        if len(self.recent) < 2:
            return
        mean = {
            name: torch.stack([each[name] for each in self.recent]).mean(dim=0)
            for name in self.recent[0]
        }
        scores = self._scores(mean)
        self.run_log.epoch(f"dev BLEU, mean of {len(self.recent)}", scores, self.progress.history)
        if _mean(scores) > self.progress.best:
            self.progress.best = _mean(scores)
            self.best = mean

    def _scores(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Give the dev BLEU of weights by set and manner of writing; the network stays as is."""
        raw = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(dict(weights))
        self.network.eval()
        beam = self.config.training.validation_beam
        options = self.config.decoding.model_copy(update={"beam_size": beam, "num_captions": 1})
        scores = {}
        for name, pairs in self.data.dev.items():
            references = [pair.target for pair in pairs]
            sources = [pair.source for pair in pairs]
            for manner, texts in (
                ("written", sources),
                ("captioned", [as_captioned(text) or text for text in sources]),
            ):
                found = self.translator.translate_texts(texts, options)
                hypotheses = [each.text for each in found]
                scores[f"{name} {manner}"] = translation_bleu(references, hypotheses).value
            self._show(name, sources, hypotheses)
        self.network.load_state_dict(raw)
        return scores

    def _show(self, name: str, sources: Sequence[str], hypotheses: Sequence[str]) -> None:
        """Show the translations of the first few sentences."""
        for source, text in list(zip(sources, hypotheses, strict=True))[:3]:
            self.run_log.say(f"  {name}: {source} -> {text}")

    def _save(self) -> None:
        """Write the whole state."""
        self.saved_at = time.monotonic()
        groups: dict[str, Mapping[str, Tensor]] = {
            "model": self.network.state_dict(),
            "average": self.average.tensors,
            "best": self.best,
        }
        groups |= {f"{_RECENT}{place}": each for place, each in enumerate(self.recent)}
        tensors = {
            group: own_tensors(self.described, named) for group, named in groups.items() if named
        }
        numbers = progress_numbers(self.progress) | {
            "updates": self.average.updates,
            "steps": self.run_log.steps,
        }
        tensors["optimizer"] = optimizer_tensors(self.optimizer)
        save_state(
            self.folder / "state", {name: each for name, each in tensors.items() if each}, numbers
        )

    def _resume(self) -> None:
        """Load the last state, if there is one."""
        found = load_state(self.folder / "state")
        if found is None:
            return
        tensors, numbers = found
        self.average.updates = numbers.pop("updates")
        self.run_log.steps = numbers.pop("steps")
        self.progress = read_progress(Progress, numbers)
        restore_optimizer(self.optimizer, tensors.pop("optimizer", {}))
        groups = {
            name: self._moved(with_second_names(self.described, named))
            for name, named in tensors.items()
        }
        self.network.load_state_dict(groups["model"])
        self.average.tensors = groups["average"]
        self.best = groups.get("best", {})
        recent = sorted(name for name in groups if name.startswith(_RECENT))
        self.recent = [
            groups[name] for name in sorted(recent, key=lambda name: int(name[len(_RECENT) :]))
        ]
        self.run_log.say(f"going on from epoch {self.progress.epoch + 1}")

    def _moved(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give each name a tensor of its own: an average is updated in place, name by name."""
        return {name: tensor.to(self.device, copy=True) for name, tensor in tensors.items()}


def _mean(scores: Mapping[str, float]) -> float:
    return sum(scores.values()) / len(scores)
