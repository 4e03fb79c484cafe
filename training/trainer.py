"""Training: stages of epochs, from an experiment's description to its best weights. Knows no
command line.

Every random draw is seeded by stage, epoch and step, and the whole state is saved every few
minutes, so that a killed run goes on to the same result as an unbroken one. Losses are summed over
captions and processes before they are divided, so that the number of processes does not change what
is learnt.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.caption import ModelInfo
from models.captioner import NetworkCaptioner
from models.config import ModelConfig
from models.decoders.base import CaptionDecoder
from models.decoding import sample
from models.network import CaptioningModel
from models.precision import faster_precision
from models.runtime.torch import TorchRuntime
from training.config import StageConfig, TrainConfig
from training.data.annotation_cache import Annotator, Views, shown
from training.data.augmentation import augment
from training.data.examples import AttentionTargets, Example, epoch_batches, pad_captions, seeded
from training.data.images import ImageReader, prefetched
from training.distributed import Processes
from training.experiment import TrainingData
from training.losses import MovingBaseline
from training.objective import Objective, Terms
from training.optimizer import build_optimizer, rate_at
from training.rewards import CaptionReward, advantages
from training.run_log import RunLog
from training.run_state import (
    WeightAverage,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
)
from training.validation import Validator

__all__ = ["Trainer"]


@dataclass(slots=True)
class Progress:
    """Where a run stands; all of it goes into the saved state."""

    stage: int = 0
    epoch: int = 0
    step: int = 0  # within the epoch
    best: float = -math.inf  # dev CIDEr-D of the best weights of this stage
    bad_epochs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Batch(NamedTuple):
    """What a step learns from: pixels, annotations or None (language), ids (B, G, T + 2), the
    photos' indices."""

    inputs: Tensor | None
    ids: Tensor
    taught: AttentionTargets | None
    indices: list[int]
    step: int


class Trainer:
    """Runs the stages of one experiment in one or several processes."""

    def __init__(
        self,
        config: TrainConfig,
        experiment: TrainingData,
        model: CaptioningModel,
        described: ModelConfig,
        reader: ImageReader,
        processes: Processes,
        run_log: RunLog,
        teachers: Mapping[str, CaptionDecoder] = MappingProxyType({}),
    ) -> None:
        """Take a freshly built `model`; the run_log's folder receives states, `cache` beside it
        annotations.

        teachers: by the names that stages give in `distil_from`, all of them; they see what the
        model's encoder sees.
        """
        self.config, self.experiment, self.reader, self.processes = (
            config,
            experiment,
            reader,
            processes,
        )
        self.folder, self.run_log = run_log.folder, run_log
        self.model: CaptioningModel = model.to(processes.device).to(
            memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        automatic = faster_precision() if processes.device.type == "cpu" else "bfloat16"
        self.precision = automatic if config.precision == "auto" else config.precision
        self.progress = Progress()
        names = {name for stage in config.stages for name in stage.distil_from}
        self.teachers = {name: teachers[name].to(processes.device).eval() for name in names}
        self.average = WeightAverage(self.model, 0.0)
        self.optimizer: torch.optim.Optimizer | None = None
        self.reward: CaptionReward | None = None
        self.baseline = MovingBaseline()
        self.annotator = Annotator(
            self.model.encoder,
            reader,
            self._autocast,
            self.folder.parent / "cache",
            processes,
            run_log,
        )
        self.validator = Validator(experiment, reader, config.decoding, processes, run_log)
        runtime = TorchRuntime(self.model, reader.preprocess, precision=self.precision)
        info = ModelInfo(described.name, "", described, parameters=0, metrics={})
        self.captioner = NetworkCaptioner(runtime, experiment.vocabulary, info)
        self.best: dict[str, Tensor] = {}
        self.saved_at = time.monotonic()

    # ------------------------------------------------------------------ the run

    def run(self) -> dict[str, Tensor]:
        """Train to the end, from where the last state stands; give the best weights (float32)."""
        tensors = self._resume()
        while self.progress.stage < len(self.config.stages):
            self._run_stage(self.config.stages[self.progress.stage], tensors)
            tensors = {}
        return self.best

    def _run_stage(self, stage: StageConfig, tensors: dict[str, dict[str, Tensor]]) -> None:
        """Train one stage, or what is left of it, and leave its best weights in the model."""
        progress = self.progress
        self.run_log.say(f"stage {progress.stage + 1} of {len(self.config.stages)}: {stage.kind}")
        examples = (
            self.experiment.text + self.experiment.train
            if stage.kind == "language"
            else self.experiment.train
        )
        if stage.kind == "language":
            examples = tuple(
                replace(each, path=None, captions=(c,)) for each in examples for c in each.captions
            )
        examples = tuple(
            replace(each, weight=stage.weights.get(each.source, each.weight)) for each in examples
        )
        self.optimizer = build_optimizer(self.model, stage)
        if "optimizer" in tensors:
            restore_optimizer(self.optimizer, tensors["optimizer"])
        else:
            self.average = WeightAverage(self.model, stage.ema_decay)
        self.average.decay = stage.ema_decay
        cached = stage.kind in ("frozen", "self-critical")
        views = self.annotator.views(examples, stage.views, self.config.seed) if cached else None
        self.reward = (
            CaptionReward(examples, self.experiment.vocabulary)
            if stage.kind == "self-critical"
            else None
        )
        steps = [len(self._batches(examples, stage, epoch)) for epoch in range(stage.epochs)]
        while progress.epoch < stage.epochs and progress.bad_epochs < stage.patience:
            self._train_epoch(
                stage, examples, views, done=sum(steps[: progress.epoch]), total=sum(steps)
            )
            self._validate_epoch(stage)
            progress.epoch, progress.step = progress.epoch + 1, 0
            self._save()
        if stage.kind == "finetune":  # what comes after sees the encoder as a bundle stores it
            weights = self.model.encoder.state_dict(prefix="encoder.")
            self.best |= {
                name: self.best[name].half().float()
                for name, t in weights.items()
                if t.is_floating_point()
            }
        self.model.load_state_dict(self.best)
        progress.stage, progress.epoch, progress.bad_epochs, progress.best = (
            progress.stage + 1,
            0,
            0,
            -math.inf,
        )
        self.average = WeightAverage(self.model, 0.0)
        self.optimizer = None
        self._save()

    def _train_epoch(
        self,
        stage: StageConfig,
        examples: tuple[Example, ...],
        views: Views | None,
        *,
        done: int,
        total: int,
    ) -> None:
        """Take the epoch's steps, from `progress.step` on; `done` of `total` came before it in
        the stage."""
        progress = self.progress
        self.model.train()
        batches = self._batches(examples, stage, progress.epoch)[progress.step :]
        prepare = self._prepare(stage, examples, views)
        numbered = [(progress.step + offset, batch) for offset, batch in enumerate(batches)]
        title = f"{stage.kind} {progress.epoch + 1}/{stage.epochs}"
        with self.run_log.bar(title, sum(map(len, batches)) * self.processes.world) as bar:
            for batch in prefetched(prepare, numbered):
                rate = rate_at(stage, (done + batch.step) / max(total, 1))
                loss, penalty = self._step(stage, batch, rate)
                self.run_log.step(f"train/{stage.kind}", loss=loss, penalty=penalty, rate=rate)
                bar.update(len(batch.indices) * self.processes.world)
                progress.step = batch.step + 1
                if time.monotonic() - self.saved_at > self.config.checkpoint_minutes * 60:
                    self._save()

    def _step(self, stage: StageConfig, batch: Batch, rate: float) -> tuple[float, float]:
        """Take one step; give loss per word and the penalty."""
        assert self.optimizer is not None
        progress, device = self.progress, self.processes.device
        torch.manual_seed(
            seeded(
                self.config.seed, progress.stage, progress.epoch, batch.step, self.processes.rank, 7
            ).initial_seed()
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["base_rate"]
        inputs = None if batch.inputs is None else batch.inputs.to(device)
        if self.reward is not None and inputs is not None:
            ids, advantage = self._sample_and_score(inputs, batch.indices)
        else:
            ids, advantage = batch.ids.to(device).flatten(0, 1), None  # (R, T + 1)
        taught = None if batch.taught is None else batch.taught.to(device)
        teachers = [self.teachers[name] for name in stage.distil_from]
        objective = Objective(stage, self.experiment.vocabulary, self.baseline, teachers)
        with self._autocast():
            if inputs is not None and stage.kind == "finetune":
                inputs = self.annotator.look(inputs)
            terms = objective(
                self.model.decoder,
                inputs,
                ids,
                advantage=advantage,
                taught=None if advantage is not None else taught,
            )
            if (
                advantage is not None and taught is not None
            ):  # samples have no boxes: maps are taught on people's words
                people = objective(
                    self.model.decoder, inputs, batch.ids.to(device).flatten(0, 1), taught=taught
                )
                terms = terms._replace(taught=people.taught, taught_words=people.taught_words)
        self.optimizer.zero_grad(set_to_none=True)
        self._total(
            stage, terms, int((ids[:, 1] != self.experiment.vocabulary.pad_id).sum())
        ).backward()
        trained = [
            parameter for group in self.optimizer.param_groups for parameter in group["params"]
        ]
        self.processes.sum_gradients(trained)
        torch.nn.utils.clip_grad_norm_(trained, stage.clip_norm)
        self.optimizer.step()
        self.average.update(self.model)
        if terms.taught_words:
            self.run_log.note(
                f"train/{stage.kind}/taught", terms.taught.item() / terms.taught_words
            )
        return terms.loss.item() / max(terms.words, 1), terms.penalty.item()

    def _total(self, stage: StageConfig, terms: Terms, captions: int) -> Tensor:
        """This process's part of the loss: every sum divided by what it counts in all processes."""
        total = terms.loss / self.processes.sum(terms.words)
        total = total + stage.alpha_c * terms.penalty * (captions / self.processes.sum(captions))
        if stage.attention_loss_weight:
            total = total + stage.attention_loss_weight * terms.taught / max(
                self.processes.sum(terms.taught_words), 1
            )
        rewarded = self.processes.sum(terms.rewarded)
        if rewarded:
            self.baseline.update(self.processes.sum(terms.reward) / rewarded)
        return total

    def _sample_and_score(self, annotations: Tensor, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Sample captions of photos `indices` and reward them: ids (R, T + 2) from bos on, and
        advantages (R,)."""
        assert self.reward is not None
        # the policy is the network as it decodes, without dropout, here and in the loss
        self.model.eval()
        group = self.config.captions_per_photo
        with self._autocast():
            drawn = sample(
                self.model.decoder,
                annotations,
                count=group,
                max_length=self.config.decoding.max_length,
            )
        rewards = self.reward(indices, drawn.view(len(indices), group, -1))
        self.run_log.note("train/self-critical/reward", rewards.mean().item())
        bos = drawn.new_full((len(drawn), 1), self.experiment.vocabulary.bos_id)
        return torch.cat([bos, drawn], dim=1), advantages(rewards).flatten().to(drawn.device)

    # ------------------------------------------------------------------ data

    def _batches(
        self, examples: tuple[Example, ...], stage: StageConfig, epoch: int
    ) -> list[list[int]]:
        """This process's batches of an epoch, as many as every other one's."""
        generator = seeded(self.config.seed, self.progress.stage, epoch, 1)
        batches = epoch_batches(examples, stage.batch_size, generator)
        rank, world = self.processes.rank, self.processes.world
        if len(batches) < world:  # too little for everyone: some take the same
            return [batches[rank % len(batches)]]
        return batches[rank::world][: len(batches) // world]

    def _prepare(
        self, stage: StageConfig, examples: tuple[Example, ...], views: Views | None
    ) -> Callable[[tuple[int, list[int]]], Batch]:
        """Give the function that makes a step's batch; it runs in the thread beside."""
        progress, seed, rank = self.progress, self.config.seed, self.processes.rank
        group = 1 if stage.kind == "language" else self.config.captions_per_photo
        stage_index, epoch = progress.stage, progress.epoch
        grid = self.model.encoder.grid

        def prepare(numbered: tuple[int, list[int]]) -> Batch:
            step, indices = numbered
            generator = seeded(seed, stage_index, epoch, step, rank, 2)
            drawn = views.draw(len(indices), generator) if views is not None else [0] * len(indices)
            chosen = shown([examples[index] for index in indices], drawn)
            taught_grid = grid if stage.attention_loss_weight else None
            batch = Batch(None, *pad_captions(chosen, group, generator, taught_grid), indices, step)
            if stage.kind == "language":
                return batch
            if views is not None:
                return batch._replace(inputs=views.read(indices, drawn))
            pixels = self.reader([each.path for each in chosen if each.path is not None])
            if stage.augment:
                pixels = augment(
                    pixels, torch.tensor([each.flippable for each in chosen]), generator
                )
            return batch._replace(inputs=pixels)

        return prepare

    def _autocast(self) -> torch.autocast:
        """Compute in the run's precision; weights, sums and what the loss is made of stay in
        float32."""
        return torch.autocast(
            self.processes.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        )

    # ------------------------------------------------------------------ judging and keeping

    def _validate_epoch(self, stage: StageConfig) -> None:
        """Score the averaged weights on dev, and keep them where they are the stage's best."""
        progress = self.progress
        if (progress.epoch + 1) % stage.validate_every and progress.epoch + 1 < stage.epochs:
            return
        if stage.kind == "language":  # no picture to caption: the last weights are the best
            self.best = {name: tensor.clone() for name, tensor in self.average.tensors.items()}
            return
        raw = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.tensors)
        frozen = stage.kind != "finetune"
        caches = (
            {name: self.annotator.cache(photos) for name, photos in self.experiment.dev.items()}
            if frozen
            else {}
        )
        self.model.eval()
        scores = self.validator.scores(self.captioner, caches)
        self.model.load_state_dict(raw)
        mean = sum(scores.values()) / len(scores)
        progress.history.append({"stage": progress.stage, "epoch": progress.epoch, **scores})
        self.run_log.epoch("dev CIDEr-D", scores, progress.history)
        if mean > progress.best:
            progress.best, progress.bad_epochs = mean, 0
            self.best = {name: tensor.clone() for name, tensor in self.average.tensors.items()}
        else:
            progress.bad_epochs += 1

    def _save(self) -> None:
        """Write the whole state; only the first process does."""
        self.saved_at = time.monotonic()
        if self.processes.is_first:
            tensors = {
                "model": self.model.state_dict(),
                "average": self.average.tensors,
                "best": self.best,
            }
            if self.optimizer is not None:
                tensors["optimizer"] = optimizer_tensors(self.optimizer)
            numbers = {**asdict(self.progress), "best": _finite(self.progress.best)}
            numbers |= {
                "updates": self.average.updates,
                "steps": self.run_log.steps,
                "baseline": self.baseline.value,
            }
            save_state(
                self.folder / "state",
                {key: value for key, value in tensors.items() if value},
                numbers,
            )

    def _resume(self) -> dict[str, dict[str, Tensor]]:
        """Load the last state, if there is one; give its tensors."""
        found = load_state(self.folder / "state")
        if found is None:
            return {}
        tensors, numbers = found
        updates, best = numbers.pop("updates"), numbers.pop("best")
        self.run_log.steps = numbers.pop("steps", 0)
        self.baseline.value = numbers.pop("baseline", None)
        self.progress = Progress(**numbers, best=-math.inf if best is None else best)
        self.model.load_state_dict(tensors["model"])
        self.average.tensors, self.average.updates = tensors["average"], updates
        self.best = tensors.get("best", {})
        self.run_log.say(
            f"going on from stage {self.progress.stage + 1}, epoch {self.progress.epoch + 1}"
        )
        return tensors


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
