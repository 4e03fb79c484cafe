"""One run from beginning to end: what an experiment describes, made and trained.

Knows no command line.
"""

from pathlib import Path

import torch

from training.config import TrainConfig
from training.data.images import ImageReader
from training.distributed import Processes
from training.initialization import (
    first_model,
    load_source,
    load_teachers,
    model_config,
    read_data,
    tell_words,
)
from training.run_log import RunLog
from training.run_state import check_same_run
from training.trainer import Trainer

__all__ = ["train_run"]


def train_run(
    config: TrainConfig,
    *,
    encoders_folder: Path,
    runs_folder: Path,
    weights_folder: Path,
    device: str,
    next_step: str,
) -> None:
    """Train by the experiment's stages, or go on where the run was left.

    device: auto, cpu or cuda.
    next_step: reported at the end.
    Raises GlimpseError where the experiment, its data or its bundles cannot be used.
    """
    processes = Processes.join(device)
    run_log = RunLog(runs_folder / config.name, speaks=processes.is_first)
    source = load_source(config, weights_folder)
    data = read_data(config, source, run_log.say)
    torch.manual_seed(config.seed)
    described = model_config(config, len(data.vocabulary), source)
    if processes.is_first:
        check_same_run(run_log.folder, described, data.vocabulary)
    model = first_model(config, described, source, encoders_folder)
    tell_words(model, data.vocabulary)
    teachers = load_teachers(config, model, data.vocabulary, weights_folder)
    reader = ImageReader(described.preprocess, config.max_unreadable)
    Trainer(config, data, model, described, reader, processes, run_log, teachers).run()
    run_log.say(f"done; next: {next_step}")
    processes.leave()
