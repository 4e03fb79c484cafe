"""The training loop of a matching model: stages of epochs, from weights to the best weights.

Knows no command line, and asks no stage for its kind. Draws are seeded and states are saved as in
`training.trainer`, so that a killed run goes on to the same result as an unbroken one.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.matching.bundle import MatchingBundle
from training.data.batching import epoch_batches, seeded
from training.data.images import prefetched
from training.ema import WeightAverage
from training.matching.config import PairsStage, WordsStage
from training.matching.learning import Learning, MatchContext
from training.matching.stages import build_learning
from training.optimizer import build_adamw, rate_at
from training.run_log import RunLog
from training.run_state import (
    StageProgress,
    load_state,
    optimizer_tensors,
    progress_numbers,
    read_progress,
    restore_optimizer,
    save_state,
)

__all__ = ["MatchTrainer"]

Tensors = dict[str, dict[str, Tensor]]  # by group and name
AnyLearning = Learning[Any, Any, Any]


class MatchTrainer:
    """Runs the stages of one experiment in one process."""

    def __init__(
        self, context: MatchContext[Any], run_log: RunLog, finder: MatchingBundle | None = None
    ) -> None:
        """Take a freshly built model; the log's folder receives states.

        finder: what a vilbert re-ranks.
        """
        self.context = context
        self.finder = finder
        self.config = context.config
        self.model = context.model
        self.run_log = run_log
        self.folder = run_log.folder
        self.progress = StageProgress()
        self.average = WeightAverage(self.model, 0.0)
        self.optimizer: torch.optim.Optimizer | None = None
        self.learning: AnyLearning | None = None
        self.best: dict[str, Tensor] = {}
        self.saved_at = time.monotonic()

    def run(self) -> dict[str, Tensor]:
        """Train to the end, from where the last state stands; give the best weights (float32)."""
        tensors = self._resume()
        while self.progress.stage < len(self.config.stages):
            self._run_stage(self.config.stages[self.progress.stage], tensors)
            tensors = {}
        return self.best

    def _run_stage(self, stage: WordsStage | PairsStage, tensors: Tensors) -> None:
        """Train one stage, or what is left of it, and leave its best weights in the model."""
        progress = self.progress
        self.run_log.say(f"stage {progress.stage + 1} of {len(self.config.stages)}: {stage.kind}")
        learning = self.learning = build_learning(stage, self.context, self.finder)
        self.model.table.embedding.requires_grad_(not stage.freeze_words)
        self.optimizer = build_adamw([(self.model, stage.learning_rate)], stage.weight_decay)
        if "optimizer" in tensors:
            restore_optimizer(self.optimizer, tensors["optimizer"])
        else:
            self.average = WeightAverage(self.model, stage.ema_decay)
        if "learning" in tensors:
            learning.restore(tensors["learning"])
        self.average.decay = stage.ema_decay
        steps = [len(self._batches(learning, epoch)) for epoch in range(stage.epochs)]
        while progress.epoch < stage.epochs and progress.bad_epochs < stage.patience:
            self._train_epoch(learning, done=sum(steps[: progress.epoch]), total=sum(steps))
            self._validate(learning)
            progress.epoch += 1
            progress.step = 0
            self._save()
        self.model.load_state_dict(self.best)
        self.progress = StageProgress(stage=progress.stage + 1, history=progress.history)
        self.average = WeightAverage(self.model, 0.0)
        self.optimizer = None
        self.learning = None
        self._save()

    def _train_epoch(self, learning: AnyLearning, *, done: int, total: int) -> None:
        """Take the epoch's steps, from `progress.step` on; `done` of `total` came before it."""
        progress = self.progress
        stage = learning.stage
        self.model.train()
        numbered = list(enumerate(self._batches(learning, progress.epoch)))[progress.step :]
        title = f"{stage.kind} {progress.epoch + 1}/{stage.epochs}"
        with self.run_log.bar(title, sum(len(indices) for _, indices in numbered)) as bar:
            for step, size, batch in prefetched(self._prepare(learning), numbered):
                rate = rate_at(
                    (done + step) / max(total, 1),
                    warmup_fraction=stage.warmup_fraction,
                    final_fraction=stage.final_fraction,
                )
                terms = self._step(learning, batch, step, rate)
                self.run_log.step(f"train/{stage.kind}", rate=rate, **terms)
                bar.update(size)
                progress.step = step + 1
                if time.monotonic() - self.saved_at > self.config.checkpoint_minutes * 60:
                    self._save()

    def _step(self, learning: AnyLearning, batch: Any, step: int, rate: float) -> dict[str, float]:
        """Take one step; give its losses."""
        assert self.optimizer is not None
        torch.manual_seed(self._seeded(step, 7).initial_seed())
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["base_rate"]
        with self.context.autocast():
            terms = learning.losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        trained = [each for group in self.optimizer.param_groups for each in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, learning.stage.clip_norm)
        self.optimizer.step()
        self.average.update(self.model)
        return {name: term.item() for name, term in terms.items()}

    # ------------------------------------------------------------------ batches

    def _batches(self, learning: AnyLearning, epoch: int) -> list[list[int]]:
        generator = seeded(self.config.seed, self.progress.stage, epoch, 1)
        return epoch_batches(learning.chosen, learning.stage.batch_size, generator)

    def _prepare(
        self, learning: AnyLearning
    ) -> Callable[[tuple[int, Sequence[int]]], tuple[int, int, Any]]:
        """Give the function that makes a step's batch of this epoch; it runs in a second thread."""

        def prepare(numbered: tuple[int, Sequence[int]]) -> tuple[int, int, Any]:
            step, indices = numbered
            return step, len(indices), learning.prepare(indices, self._seeded(step, 2))

        return prepare

    def _seeded(self, *parts: int) -> torch.Generator:
        return seeded(self.config.seed, self.progress.stage, self.progress.epoch, *parts)

    # ------------------------------------------------------------------ validating and saving

    def _validate(self, learning: AnyLearning) -> None:
        """Score the averaged weights on dev, and keep them where they are the stage's best."""
        progress = self.progress
        raw = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.tensors)
        self.model.eval()
        scores = learning.validate()
        self.model.load_state_dict(raw)
        mean = sum(scores.values()) / len(scores)
        progress.history.append({"stage": progress.stage, "epoch": progress.epoch, **scores})
        self.run_log.epoch("dev", scores, progress.history)
        if mean > progress.best:
            progress.best = mean
            progress.bad_epochs = 0
            self.best = self.average.copy()
        else:
            progress.bad_epochs += 1

    def _save(self) -> None:
        """Write the whole state."""
        self.saved_at = time.monotonic()
        tensors = {
            "model": self.model.state_dict(),
            "average": self.average.tensors,
            "best": self.best,
        }
        if self.optimizer is not None:
            tensors["optimizer"] = optimizer_tensors(self.optimizer)
        if self.learning is not None:
            tensors["learning"] = self.learning.state()
        numbers = progress_numbers(self.progress) | {
            "updates": self.average.updates,
            "steps": self.run_log.steps,
        }
        filled = {group: named for group, named in tensors.items() if named}
        save_state(self.folder / "state", filled, numbers)

    def _resume(self) -> Tensors:
        """Load the last state, if there is one; give its tensors."""
        found = load_state(self.folder / "state")
        if found is None:
            return {}
        tensors, numbers = found
        self.average.updates = numbers.pop("updates")
        self.run_log.steps = numbers.pop("steps", 0)
        self.progress = read_progress(StageProgress, numbers)
        self.model.load_state_dict(tensors["model"])
        self.average.tensors = tensors["average"]
        self.best = tensors.get("best", {})
        self.run_log.say(
            f"going on from stage {self.progress.stage + 1}, epoch {self.progress.epoch + 1}"
        )
        return tensors
