"""`glimpse-train`: train a captioner, evaluate it, export it. Thin: it reads options and calls."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from models.captioning import build_model
from models.config import ModelConfig
from models.encoder import default_preprocess, load_pretrained
from training.config import TrainConfig, load_config
from training.distributed import Processes
from training.experiment import read_experiment
from training.pictures import PictureReader
from training.progress import Journal
from training.trainer import Trainer

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train, evaluate and export captioners.")


def model_config(config: TrainConfig, vocab_size: int) -> ModelConfig:
    """Describe the captioner that an experiment trains."""
    chosen = config.architecture
    return ModelConfig(
        name=config.name,
        encoder=chosen.encoder,
        vocab_size=vocab_size,
        embed_dim=chosen.embed_dim,
        decoder_dim=chosen.decoder_dim,
        attention_dim=chosen.attention_dim,
        dropout=chosen.dropout,
        preprocess=default_preprocess(chosen.encoder, chosen.size_pixels),
        decoding=config.decoding,
    )


@app.callback()
def main() -> None:
    """Train, evaluate and export captioners."""


@app.command()
def train(
    experiment: Annotated[Path, typer.Argument(help="the experiment's TOML file")],
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = Path("data"),
    encoders_folder: Annotated[Path, typer.Option(help="where pretrained encoders lie")] = Path("encoders"),
    runs_folder: Annotated[Path, typer.Option(help="receives states and curves")] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """Train by the experiment's stages; started again, it goes on from the last saved state."""
    config = load_config(experiment, data_folder)
    processes = Processes.join(device)
    folder = runs_folder / config.name
    journal = Journal(folder, speaks=processes.is_first)
    data = read_experiment(config, journal.say)
    torch.manual_seed(config.seed)
    described = model_config(config, len(data.vocabulary))
    model = build_model(described)
    pretrained = load_pretrained(described.encoder, described.preprocess.size_pixels, encoders_folder)
    model.encoder.load_state_dict(pretrained.state_dict())
    reader = PictureReader(described.preprocess, config.max_unreadable)
    Trainer(config, data, model, reader, processes, folder).run()
    processes.leave()
