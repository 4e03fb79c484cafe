"""The training loop: stages of epochs, from an experiment's description to its best weights.

Knows no command line, and asks no stage for its kind.

Every random draw is seeded by stage, epoch and step, and the whole state is saved every few
minutes, so that a killed run goes on to the same result as an unbroken one. Losses are summed over
captions and processes before they are divided, so that the number of processes does not change what
is learnt.
"""

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from models.caption import ModelInfo
from models.captioner import NetworkCaptioner
from models.config import ModelConfig
from models.decoders.base import CaptionDecoder
from models.network import CaptioningModel
from models.runtime.torch import TorchRuntime
from training.annotation import Annotator
from training.config import StageBase, StageConfig, TrainConfig
from training.data.batching import epoch_batches, seeded
from training.data.images import ImageReader, prefetched
from training.data.training_data import TrainingData
from training.distributed import Processes
from training.ema import WeightAverage
from training.losses import MovingBaseline
from training.objective import Terms
from training.optimizer import rate_at
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
from training.stages import Batch, Stage, StageContext, build_stage
from training.validation import Validator

__all__ = ["Trainer"]

AnyStage = Stage[StageBase]
Tensors = dict[str, dict[str, Tensor]]  # by group and name


class Trainer:
    """Runs the stages of one experiment in one or several processes."""

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        model: CaptioningModel,
        described: ModelConfig,
        reader: ImageReader,
        processes: Processes,
        run_log: RunLog,
        teachers: Mapping[str, CaptionDecoder] = MappingProxyType({}),
    ) -> None:
        """Take a freshly built `model`.

        run_log: its folder receives states; `cache` beside that folder receives annotations.
        teachers: all that stages name in `distil_from`, by name; they have the model's encoder.
        """
        self.config = config
        self.data = data
        self.processes = processes
        self.run_log = run_log
        self.folder = run_log.folder
        self.network: CaptioningModel = model.to(processes.device)
        self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        runtime = TorchRuntime(self.network, reader.preprocess, precision=config.precision)
        self.precision = runtime.precision  # what "auto" means here is the runtime's to say
        self.progress = StageProgress()
        self.average = WeightAverage(self.network, 0.0)
        self.optimizer: torch.optim.Optimizer | None = None
        self.baseline = MovingBaseline()
        self.best: dict[str, Tensor] = {}
        self.saved_at = time.monotonic()
        self.context = self._build_context(reader, teachers)
        self.validator = Validator(data.dev, reader, config.decoding, processes, run_log)
        info = ModelInfo(described.name, "", described, parameters=0, metrics={})
        self.captioner = NetworkCaptioner(runtime, data.vocabulary, info)

    def _build_context(
        self, reader: ImageReader, teachers: Mapping[str, CaptionDecoder]
    ) -> StageContext:
        """Gather what the stages work with."""
        cache = self.folder.parent / "cache"
        device = self.processes.device
        return StageContext(
            data=self.data,
            network=self.network,
            annotator=Annotator(
                self.network, reader, self._autocast, cache, self.processes, self.run_log
            ),
            baseline=self.baseline,
            teachers={name: each.to(device).eval() for name, each in teachers.items()},
            run_log=self.run_log,
            autocast=self._autocast,
            seed=self.config.seed,
            captions_per_image=self.config.captions_per_photo,
            max_length=self.config.decoding.max_length,
        )

    # ------------------------------------------------------------------ the run

    def run(self) -> dict[str, Tensor]:
        """Train to the end, from where the last state stands; give the best weights (float32)."""
        tensors = self._resume()
        while self.progress.stage < len(self.config.stages):
            self._run_stage(self.config.stages[self.progress.stage], tensors)
            tensors = {}
        return self.best

    def _run_stage(self, config: StageConfig, tensors: Tensors) -> None:
        """Train one stage, or what is left of it, and leave its best weights in the model."""
        progress = self.progress
        self.run_log.say(f"stage {progress.stage + 1} of {len(self.config.stages)}: {config.kind}")
        stage = build_stage(config, self.context)
        self.optimizer = stage.optimizer()
        if "optimizer" in tensors:
            restore_optimizer(self.optimizer, tensors["optimizer"])
        else:
            self.average = WeightAverage(self.network, config.ema_decay)
        self.average.decay = config.ema_decay
        steps = [len(self._batches(stage, epoch)) for epoch in range(config.epochs)]
        while progress.epoch < config.epochs and not stage.gives_up(progress.bad_epochs):
            self._train_epoch(stage, done=sum(steps[: progress.epoch]), total=sum(steps))
            if stage.validates_after(progress.epoch):
                self._validate(stage)
            progress.epoch += 1
            progress.step = 0
            self._save()
        self.best = stage.finish(self.best)
        self.network.load_state_dict(self.best)
        self.progress = StageProgress(stage=progress.stage + 1, history=progress.history)
        self.average = WeightAverage(self.network, 0.0)
        self.optimizer = None
        self._save()

    def _train_epoch(self, stage: AnyStage, *, done: int, total: int) -> None:
        """Take the epoch's steps, from `progress.step` on.

        In the stage, `done` steps of `total` came before the epoch.
        """
        progress = self.progress
        config = stage.config
        self.network.train()
        numbered = list(enumerate(self._batches(stage, progress.epoch)))[progress.step :]
        images = sum(len(indices) for _, indices in numbered) * self.processes.world
        title = f"{config.kind} {progress.epoch + 1}/{config.epochs}"
        with self.run_log.bar(title, images) as bar:
            for step, batch in prefetched(self._prepare(stage), numbered):
                rate = rate_at(
                    (done + step) / max(total, 1),
                    warmup_fraction=config.warmup_fraction,
                    final_fraction=config.final_fraction,
                )
                loss, penalty = self._step(stage, batch, step, rate)
                self.run_log.step(f"train/{config.kind}", loss=loss, penalty=penalty, rate=rate)
                bar.update(len(batch.indices) * self.processes.world)
                progress.step = step + 1
                if time.monotonic() - self.saved_at > self.config.checkpoint_minutes * 60:
                    self._save()

    def _step(self, stage: AnyStage, batch: Batch, step: int, rate: float) -> tuple[float, float]:
        """Take one step; give the loss per word and the penalty."""
        assert self.optimizer is not None
        torch.manual_seed(self._seeded(step, self.processes.rank, 7).initial_seed())
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["base_rate"]
        terms = stage.loss(batch.to(self.processes.device))
        self.optimizer.zero_grad(set_to_none=True)
        self._total(terms).backward()
        trained = [each for group in self.optimizer.param_groups for each in group["params"]]
        self.processes.sum_gradients(trained)
        torch.nn.utils.clip_grad_norm_(trained, stage.config.clip_norm)
        self.optimizer.step()
        self.average.update(self.network)
        if terms.attention_words:
            attention = terms.attention.item() / terms.attention_words
            self.run_log.note(f"train/{stage.config.kind}/attention", attention)
        return terms.loss.item() / max(terms.words, 1), terms.penalty.item()

    def _total(self, terms: Terms) -> Tensor:
        """Give this process's part of the loss: sums divided by their counts over all processes."""
        total = terms.loss / self.processes.sum(terms.words)
        share = terms.captions / self.processes.sum(terms.captions)
        total = total + terms.alpha_c * terms.penalty * share
        if terms.attention_weight:
            words = max(self.processes.sum(terms.attention_words), 1)
            total = total + terms.attention_weight * terms.attention / words
        rewarded = self.processes.sum(terms.rewarded)
        if rewarded:
            self.baseline.update(self.processes.sum(terms.reward) / rewarded)
        return total

    # ------------------------------------------------------------------ batches

    def _batches(self, stage: AnyStage, epoch: int) -> list[list[int]]:
        """Give this process's batches of an epoch, as many as every other process has."""
        generator = seeded(self.config.seed, self.progress.stage, epoch, 1)
        batches = epoch_batches(stage.chosen, stage.config.batch_size, generator)
        rank = self.processes.rank
        world = self.processes.world
        if len(batches) < world:  # too few for everyone: some take the same
            return [batches[rank % len(batches)]]
        return batches[rank::world][: len(batches) // world]

    def _prepare(self, stage: AnyStage) -> Callable[[tuple[int, list[int]]], tuple[int, Batch]]:
        """Give the function that makes a step's batch of this epoch; it runs in a second thread."""

        def prepare(numbered: tuple[int, list[int]]) -> tuple[int, Batch]:
            step, indices = numbered
            return step, stage.prepare(indices, self._seeded(step, self.processes.rank, 2))

        return prepare

    def _seeded(self, *parts: int) -> torch.Generator:
        """Give a generator that depends on the stage, the epoch and `parts` alone."""
        return seeded(self.config.seed, self.progress.stage, self.progress.epoch, *parts)

    def _autocast(self) -> torch.autocast:
        """Compute in the run's precision; weights, sums and losses stay in float32."""
        return torch.autocast(
            self.processes.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        )

    # ------------------------------------------------------------------ validating and saving

    def _validate(self, stage: AnyStage) -> None:
        """Score the averaged weights on dev, and keep them where they are the stage's best."""
        progress = self.progress
        raw = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.average.tensors)
        self.network.eval()
        scores = stage.validate(self.validator, self.captioner)
        self.network.load_state_dict(raw)
        if not scores:
            self.best = self.average.copy()
            return
        mean = sum(scores.values()) / len(scores)
        progress.history.append({"stage": progress.stage, "epoch": progress.epoch, **scores})
        self.run_log.epoch("dev CIDEr-D", scores, progress.history)
        if mean > progress.best:
            progress.best = mean
            progress.bad_epochs = 0
            self.best = self.average.copy()
        else:
            progress.bad_epochs += 1

    def _save(self) -> None:
        """Write the whole state; only the first process does."""
        self.saved_at = time.monotonic()
        if not self.processes.is_first:
            return
        tensors = {
            "model": self.network.state_dict(),
            "average": self.average.tensors,
            "best": self.best,
        }
        if self.optimizer is not None:
            tensors["optimizer"] = optimizer_tensors(self.optimizer)
        numbers = progress_numbers(self.progress) | {
            "updates": self.average.updates,
            "steps": self.run_log.steps,
            "baseline": self.baseline.value,
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
        self.baseline.value = numbers.pop("baseline", None)
        self.progress = read_progress(StageProgress, numbers)
        self.network.load_state_dict(tensors["model"])
        self.average.tensors = tensors["average"]
        self.best = tensors.get("best", {})
        self.run_log.say(
            f"going on from stage {self.progress.stage + 1}, epoch {self.progress.epoch + 1}"
        )
        return tensors
