"""One run of a matching model from beginning to end, and its bundle. Knows no command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.bundles.checkpoint import Checkpoint
from models.bundles.registry import load_model
from models.errors import ConfigError
from models.matching.bundle import (
    Matcher,
    MatchingBundle,
    build_matcher,
    digest_of_eyes,
    load_matcher,
    save_matcher,
)
from models.matching.config import MatchingConfig
from models.network import CaptioningModel
from models.runtime.torch import TorchRuntime
from models.tagging.classes import class_word_ids
from training.annotation import Annotator
from training.data.images import ImageReader
from training.data.training_data import read_training_data
from training.distributed import Processes
from training.matching.config import MatchTrainConfig
from training.matching.learning import MatchContext
from training.matching.trainer import MatchTrainer
from training.run_log import RunLog
from training.run_state import check_same, load_state

__all__ = ["export_matcher", "train_matcher"]

_WORDS = "decoder.embedding.weight"


@dataclass(frozen=True, slots=True)
class _Begun:
    """A model as training begins, what it is, and whose eyes it has."""

    model: Matcher
    described: MatchingConfig
    eyes: Checkpoint


def train_matcher(
    config: MatchTrainConfig,
    *,
    runs_folder: Path,
    weights_folder: Path,
    device: str,
    next_step: str,
) -> None:
    """Train by the experiment's stages, or go on where the run was left.

    device: auto, cpu or cuda. next_step: reported at the end.
    Raises GlimpseError where the experiment, its data or its bundles cannot be used.
    """
    processes = Processes.join(device)
    if processes.world > 1:
        raise ConfigError("A matching model is trained in one process; start it without torchrun.")
    run_log = RunLog(runs_folder / config.name, speaks=True)
    begun = _begin(config, weights_folder)
    finder = _load_finder(config, begun, weights_folder)
    check_same(run_log.folder, _identity(begun))
    context = _build_context(config, begun, processes, run_log)
    MatchTrainer(context, run_log, finder).run()
    run_log.say(f"done; next: {next_step}")


def export_matcher(config: MatchTrainConfig, runs_folder: Path, weights_folder: Path) -> Path:
    """Write the best weights of a run as a bundle in half precision, without metrics yet.

    Gives the bundle's folder. Raises ConfigError where there is no finished epoch, or where the
    experiment has changed.
    """
    begun = _begin(config, weights_folder)
    run = runs_folder / config.name
    found = load_state(run / "state")
    if found is None or "best" not in found[0]:
        raise ConfigError(f"There is no finished epoch in {run}: train first.")
    check_same(run, _identity(begun))
    begun.model.load_state_dict(found[0]["best"])
    return save_matcher(
        weights_folder, begun.model, begun.described, begun.eyes.vocabulary, metrics={}
    )


def _begin(config: MatchTrainConfig, weights_folder: Path) -> _Begun:
    """Build the model with random weights; its words begin from the eyes' captioner's.

    Raises ConfigError where that has no tagger.
    """
    eyes = load_model(weights_folder, config.eyes)
    network = eyes.model
    if network.tagger is None:
        raise ConfigError(
            f"eyes: '{config.eyes}' finds no objects, which matching wants; choose a captioner "
            "with a tagger."
        )
    torch.manual_seed(config.seed)
    vocabulary = eyes.vocabulary
    model = build_matcher(config.matcher, len(vocabulary), network.feature_dim)
    model.table.set_class_words(class_word_ids(vocabulary))
    words = network.get_parameter(_WORDS)
    if words.shape == (len(vocabulary), config.matcher.embed_dim):
        model.table.begin_from(words)
    described = MatchingConfig(
        name=config.name,
        eyes=config.eyes,
        eyes_digest=digest_of_eyes(network),
        feature_dim=network.feature_dim,
        vocab_size=len(vocabulary),
        matcher=config.matcher,
    )
    return _Begun(model, described, eyes)


def _load_finder(
    config: MatchTrainConfig, begun: _Begun, weights_folder: Path
) -> MatchingBundle | None:
    """Load the nce that the experiment names.

    Raises ConfigError where it has other words or other eyes.
    """
    if config.nce is None:
        return None
    finder = load_matcher(weights_folder, config.nce)
    if finder.vocabulary.words != begun.eyes.vocabulary.words:
        raise ConfigError(f"nce: '{config.nce}' has other words than '{config.eyes}'.")
    if finder.config.eyes_digest != begun.described.eyes_digest:
        raise ConfigError(f"nce: '{config.nce}' sees through other eyes than this run.")
    return finder


def _identity(begun: _Begun) -> dict[str, Any]:
    """Give what a run must keep from its first step to its export."""
    matcher = begun.described.matcher.model_dump(mode="json", exclude={"dropout"})
    return {
        "architecture": matcher,
        "eyes": begun.described.eyes_digest,
        "words": list(begun.eyes.vocabulary.words),
    }


def _build_context(
    config: MatchTrainConfig,
    begun: _Begun,
    processes: Processes,
    run_log: RunLog,
) -> MatchContext[Any]:
    """Read the data, and gather what the stages work with."""
    vocabulary = begun.eyes.vocabulary
    data = read_training_data(
        train=config.train,
        text=config.text,
        dev=config.dev,
        min_count=1,
        max_length=config.matcher.max_words,
        say=run_log.say,
        vocabulary=vocabulary,
    )
    (dev,) = data.dev.values()
    device = processes.device
    network: CaptioningModel = begun.eyes.model.to(device)
    reader = ImageReader(begun.eyes.config.preprocess, config.max_unreadable)
    precision = TorchRuntime(network, reader.preprocess, precision=config.precision).precision

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")

    cache = run_log.folder.parent / "cache"
    return MatchContext(
        config=config,
        model=begun.model.to(device),
        vocabulary=vocabulary,
        eyes=network,
        annotator=Annotator(network, reader, autocast, cache, processes, run_log),
        train=data.train,
        text=data.text,
        dev=dev,
        dev_sentences=[[vocabulary.encode(text) for text in image.captions] for image in dev],
        autocast=autocast,
        device=device,
    )
