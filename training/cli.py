"""`glimpse-train`: its commands that train and export; those that measure are in
`evaluation.cli`. Thin."""

import copy
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from torch import Tensor

from evaluation.cli import calibrate, evaluate, maps, table
from evaluation.options import (
    DataFolder,
    DeviceName,
    EncodersFolder,
    ExperimentFile,
    RunsFolder,
    WeightsFolder,
)
from models.bundles.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from models.bundles.shared_tensors import save_shared
from models.config import ModelConfig
from models.decoders.base import CaptionDecoder
from models.encoders import default_preprocess, load_pretrained
from models.encoders.fused import SECOND_PREFIX
from models.errors import ConfigError, GlimpseError
from models.network import CaptioningModel, build_model, sees_more
from models.runtime.torch import fingerprint
from models.tokenizer import Vocabulary
from training.config import TrainConfig, load_config
from training.data.images import ImageReader
from training.data.synthetic_shapes import write
from training.distributed import Processes
from training.experiment import check_same_run, read_training_data
from training.initialization import borrow
from training.run_log import RunLog
from training.run_state import load_state
from training.trainer import Trainer

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Train a captioner, evaluate it, and export it for the service. An experiment is one TOML "
    "file; "
    "training/configs/glimpse.toml makes the default model.",
)


def model_config(
    config: TrainConfig, vocab_size: int, start: Checkpoint | None = None
) -> ModelConfig:
    """Describe the captioner that an experiment trains: its own architecture, or that of the
    bundle it starts from."""
    chosen = config.architecture
    if start is not None and config.start_from is not None:
        own = {
            "name": config.name,
            "decoder": start.config.decoder.model_copy(update={"dropout": chosen.dropout}),
            "decoding": config.decoding,
            "calibration": None,
        }
        return start.config.model_copy(update=own)
    return ModelConfig(
        name=config.name,
        encoder=chosen.encoder,
        decoder=chosen.decoder_config(),
        vocab_size=vocab_size,
        preprocess=default_preprocess(chosen.encoder, chosen.size_pixels),
        decoding=config.decoding,
    )


def _start(config: TrainConfig, weights_folder: Path) -> Checkpoint | None:
    """Load the bundle that a run starts or borrows from, if any."""
    name = config.start_from or config.borrow_from
    return load_checkpoint(weights_folder / name) if name is not None else None


def _first_model(
    config: TrainConfig, described: ModelConfig, start: Checkpoint | None, encoders_folder: Path
) -> CaptioningModel:
    """Build the model as training begins: random or pretrained, and over that the tensors of the
    bundle, if any."""
    model = build_model(described)
    if start is not None and config.start_from is not None:
        model.load_state_dict(start.model.state_dict())
        return model
    if config.architecture.pretrained and (
        start is None or start.config.encoder != described.encoder
    ):
        pretrained = load_pretrained(
            described.encoder, described.preprocess.size_pixels, encoders_folder
        )
        model.encoder.load_state_dict(pretrained.state_dict())
    if start is not None:
        borrow(model, start.model)
    return model


def _teachers(
    config: TrainConfig, model: CaptioningModel, vocabulary: Vocabulary, weights_folder: Path
) -> dict[str, CaptionDecoder]:
    """Load what the stages distil from; raise ConfigError where it says other words or sees
    through another encoder."""
    names = sorted({name for stage in config.stages for name in stage.distil_from})
    teachers, own = (
        {},
        fingerprint(copy.deepcopy(model.encoder).half()) if names else "",
    )  # as a bundle stores it
    for name in names:
        found = load_checkpoint(weights_folder / name)
        if found.vocabulary.words != vocabulary.words:
            raise ConfigError(f"distil_from: '{name}' has other words than this run.")
        if fingerprint(found.model.encoder) != own:
            raise ConfigError(f"distil_from: '{name}' looks through another encoder than this run.")
        teachers[name] = found.model.decoder
    return teachers


@app.command()
def train(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    encoders_folder: EncodersFolder = Path("encoders"),
    runs_folder: RunsFolder = Path("runs"),
    weights_folder: WeightsFolder = Path("weights"),
    device: DeviceName = "auto",
) -> None:
    """Train by the experiment's stages, saving as it goes; started again after a kill, it goes on.

    In two processes: `torchrun --nproc-per-node 2 -m training train EXPERIMENT`. Curves and
    captioned photos: `tensorboard --logdir runs`.
    """
    config = load_config(experiment, data_folder)
    processes = Processes.join(device)
    run_log = RunLog(runs_folder / config.name, speaks=processes.is_first)
    start = _start(config, weights_folder)
    data = read_training_data(config, run_log.say, start.vocabulary if start else None)
    torch.manual_seed(config.seed)
    described = model_config(config, len(data.vocabulary), start)
    if processes.is_first:
        check_same_run(run_log.folder, described, data.vocabulary)
    model = _first_model(config, described, start, encoders_folder)
    teachers = _teachers(config, model, data.vocabulary, weights_folder)
    reader = ImageReader(described.preprocess, config.max_unreadable)
    Trainer(config, data, model, described, reader, processes, run_log, teachers).run()
    run_log.say(f"done; next: glimpse-train export {experiment}")
    processes.leave()


@app.command()
def shapes(
    folder: Annotated[
        Path, typer.Argument(help="Receives train.jsonl, dev.jsonl, images/ and boxes.json.")
    ],
    train_count: Annotated[int, typer.Option(help="Pictures to learn from.", min=1)] = 600,
    dev_count: Annotated[int, typer.Option(help="Pictures to choose by.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="The same seed draws the same pictures.")] = 0,
) -> None:
    """Draw a small captioned set of shapes, for a first run of `train` with
    training/configs/shapes.toml."""
    write(folder, train_count=train_count, dev_count=dev_count, seed=seed, size_pixels=112)
    typer.echo(f"wrote {train_count + dev_count} pictures to {folder}")


@app.command()
def export(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    runs_folder: RunsFolder = Path("runs"),
    weights_folder: WeightsFolder = Path("weights"),
) -> None:
    """Write the best weights of a run as a bundle that the service can load (half precision,
    without metrics yet)."""
    config = load_config(experiment, data_folder)
    start = _start(config, weights_folder)
    data = read_training_data(config, lambda _: None, start.vocabulary if start else None)
    found = load_state(runs_folder / config.name / "state")
    if found is None or "best" not in found[0]:
        raise ConfigError(
            f"There is no finished epoch in {runs_folder / config.name}: train first."
        )
    described = model_config(config, len(data.vocabulary), start)
    check_same_run(runs_folder / config.name, described, data.vocabulary)
    model = build_model(described)
    model.load_state_dict(found[0]["best"])
    _save(config, model, described, data.vocabulary, weights_folder)


@app.command()
def average(
    experiment: ExperimentFile,
    bundles: Annotated[
        list[str], typer.Argument(help="Bundles of one architecture; one named twice counts twice.")
    ],
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
) -> None:
    """Write the mean of bundles' weights as the experiment's bundle (Wortsman et al. 2022, "Model
    soups").

    For bundles that come from one: their weights must lie in one valley, or the mean is nonsense.
    After one that looks through two encoders, bundles may follow that look through its first alone.
    """
    config = load_config(experiment, data_folder)
    checkpoints = [load_checkpoint(weights_folder / name) for name in bundles]
    first = checkpoints[0]
    expected = _architecture(first.config)
    states = []
    for each in checkpoints:
        is_narrower = sees_more(first.model, each.model)
        own = {"encoder": first.config.encoder} if is_narrower else {}
        described = _architecture(each.config) | own
        if described != expected or each.vocabulary.words != first.vocabulary.words:
            raise ConfigError(
                f"{each.config.name} and {first.config.name} differ in architecture or words."
            )
        states.append(
            (_widened(each.model, first.model) if is_narrower else each.model).state_dict()
        )
    first.model.load_state_dict(
        {name: sum(state[name] for state in states) / len(states) for name in states[0]}
    )
    named = first.config.model_copy(
        update={"name": config.name, "decoding": config.decoding, "calibration": None}
    )
    _save(config, first.model, named, first.vocabulary, weights_folder)


def _architecture(described: ModelConfig) -> dict[str, Any]:
    """Describe what two models must have in common for a mean of their weights."""
    free = ("name", "decoding", "dropout")
    return {name: value for name, value in described.describe().items() if name not in free}


def _widened(narrow: CaptioningModel, like: CaptioningModel) -> CaptioningModel:
    """Give what `narrow` is behind the encoder of `like`, which has one more network: blind to
    that one's features."""
    wide = copy.deepcopy(like)
    borrow(wide, narrow)
    return wide


def _save(
    config: TrainConfig,
    model: CaptioningModel,
    described: ModelConfig,
    vocabulary: Vocabulary,
    weights_folder: Path,
) -> None:
    """Write a bundle, and what it shares with others."""
    for part, name in config.shared.items():
        save_shared(weights_folder, name, _part(model, part))
    shared = tuple(config.shared.values())
    save_checkpoint(weights_folder / config.name, model, described, vocabulary, {}, shared)
    typer.echo(f"wrote {weights_folder / config.name}; next: glimpse-train evaluate --write")


def _part(model: CaptioningModel, part: Literal["encoder", "words"]) -> dict[str, Tensor]:
    """Give the tensors that models may have in common: the encoder, or the embedding and the output
    layer.

    A second network in the encoder is the model's own.
    """
    prefixes = {"encoder": ("encoder.",), "words": ("decoder.embedding.", "decoder.output.")}
    chosen = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(prefixes[part])
    }
    return {
        name: tensor
        for name, tensor in chosen.items()
        if not name.startswith(f"encoder.body.{SECOND_PREFIX}")
    }


for _measure in (evaluate, table, maps, calibrate):
    app.command()(_measure)


def main() -> None:
    """Run the command line; an error that we raise on purpose is one sentence, not a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        app(prog_name="glimpse-train")
    except GlimpseError as error:
        typer.echo(f"glimpse-train: {error}", err=True)
        sys.exit(1)
