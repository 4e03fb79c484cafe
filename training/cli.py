"""`glimpse-train`: train a captioner, evaluate it, export it. Thin: it reads options and calls."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from models.captioner import Precision, TorchCaptioner, describe_captioner, load_captioner
from models.captioning import CaptioningModel, build_model
from models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, update_metrics
from models.config import DecodingOptions, ModelConfig
from models.encoder import default_preprocess, load_pretrained
from models.errors import ConfigError, GlimpseError
from models.registry import list_models
from models.shared import SharedTensors, save_shared
from training.calibration import calibrate as fit_calibration
from training.calibration import describe, hear, save_calibration
from training.config import TrainConfig, load_config
from training.data import DatasetConfig, Photo, read_dataset
from training.distributed import Processes
from training.evaluation import Evaluation, evaluate_sets
from training.experiment import check_same_run, read_experiment
from training.maps_page import Shown, render_maps_page
from training.maps_results import has_maps, measure_maps, merge_results, read_map_data
from training.pictures import PictureReader
from training.progress import Journal
from training.results_page import page, write_results
from training.state import load_state
from training.synthetic import write
from training.table import EXAMPLES, in_order, measure_table
from training.trainer import Trainer

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Train a captioner, evaluate it, and export it for the service. An experiment is one TOML file; "
    "training/configs/soft-attention.toml makes the default model.",
)

ExperimentFile = Annotated[Path, typer.Argument(help="The experiment's TOML file.", exists=True, dir_okay=False)]
DataFolder = Annotated[Path, typer.Option(help="Folder below which the experiment's data sets lie.")]
EncodersFolder = Annotated[Path, typer.Option(help="Folder of pretrained encoders, NAME.safetensors each.")]
RunsFolder = Annotated[Path, typer.Option(help="Folder for states, curves and caches; one below it per experiment.")]
WeightsFolder = Annotated[Path, typer.Option(help="Folder of model bundles, one below it per model.")]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU if there is one.")]
QuickLook = Annotated[
    int | None, typer.Option(help="A quick look at the first photos of each set: printed, nothing written.", min=2)
]
PrecisionName = Annotated[Precision, typer.Option(help="auto: as the service chooses on this machine.")]


def model_config(config: TrainConfig, vocab_size: int, start: Checkpoint | None = None) -> ModelConfig:
    """Describe the captioner that an experiment trains: its own architecture, or that of the bundle it starts from."""
    chosen = config.architecture
    if start is not None and config.start_from is not None:
        own = {"name": config.name, "dropout": chosen.dropout, "decoding": config.decoding, "calibration": None}
        return start.config.model_copy(update=own)
    return ModelConfig(
        name=config.name,
        encoder=chosen.encoder,
        decoder=chosen.decoder,
        attention=chosen.attention,
        layers=chosen.layers,
        heads=chosen.heads,
        vocab_size=vocab_size,
        embed_dim=chosen.embed_dim,
        decoder_dim=chosen.decoder_dim,
        attention_dim=chosen.attention_dim,
        dropout=chosen.dropout,
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
    """Build the model as training begins: the bundle's weights, or random ones behind a pretrained encoder."""
    model = build_model(described)
    if start is not None and config.start_from is not None:
        model.load_state_dict(start.model.state_dict())
    elif start is not None:
        _borrow(model, start.model)
    elif config.architecture.pretrained:
        pretrained = load_pretrained(described.encoder, described.preprocess.size_pixels, encoders_folder)
        model.encoder.load_state_dict(pretrained.state_dict())
    return model


def _borrow(model: CaptioningModel, lender: CaptioningModel) -> None:
    """Begin with the lender's tensors wherever name and shape are the same; the others stay random."""
    wanted = model.state_dict()
    fits = {name: t for name, t in lender.state_dict().items() if name in wanted and wanted[name].shape == t.shape}
    model.load_state_dict({**wanted, **fits})


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

    In two processes: `torchrun --nproc-per-node 2 -m training train EXPERIMENT`. Curves and captioned photos:
    `tensorboard --logdir runs`.
    """
    config = load_config(experiment, data_folder)
    processes = Processes.join(device)
    journal = Journal(runs_folder / config.name, speaks=processes.is_first)
    start = _start(config, weights_folder)
    data = read_experiment(config, journal.say, start.vocabulary if start else None)
    torch.manual_seed(config.seed)
    described = model_config(config, len(data.vocabulary), start)
    if processes.is_first:
        check_same_run(journal.folder, described, data.vocabulary)
    model = _first_model(config, described, start, encoders_folder)
    reader = PictureReader(described.preprocess, config.max_unreadable)
    Trainer(config, data, model, reader, processes, journal).run()
    journal.say(f"done; next: glimpse-train export {experiment}")
    processes.leave()


@app.command()
def shapes(
    folder: Annotated[Path, typer.Argument(help="Receives train.jsonl, dev.jsonl, images/ and boxes.json.")],
    train_count: Annotated[int, typer.Option(help="Pictures to learn from.", min=1)] = 600,
    dev_count: Annotated[int, typer.Option(help="Pictures to choose by.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="The same seed draws the same pictures.")] = 0,
) -> None:
    """Draw a small captioned set of shapes, for a first run of `train` with training/configs/shapes.toml."""
    write(folder, train_count=train_count, dev_count=dev_count, seed=seed, size_pixels=112)
    typer.echo(f"wrote {train_count + dev_count} pictures to {folder}")


@app.command()
def export(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    runs_folder: RunsFolder = Path("runs"),
    weights_folder: WeightsFolder = Path("weights"),
) -> None:
    """Write the best weights of a run as a bundle that the service can load (half precision, without metrics yet)."""
    config = load_config(experiment, data_folder)
    start = _start(config, weights_folder)
    data = read_experiment(config, lambda _: None, start.vocabulary if start else None)
    found = load_state(runs_folder / config.name / "state")
    if found is None or "best" not in found[0]:
        raise ConfigError(f"There is no finished epoch in {runs_folder / config.name}: train first.")
    described = model_config(config, len(data.vocabulary), start)
    check_same_run(runs_folder / config.name, described, data.vocabulary)
    model = build_model(described)
    model.load_state_dict(found[0]["best"])
    for part, name in config.shared.items():
        save_shared(weights_folder, name, _part(model, part))
    shared = tuple(config.shared.values())
    save_checkpoint(weights_folder / config.name, model, described, data.vocabulary, {}, shared)
    typer.echo(f"wrote {weights_folder / config.name}; next: glimpse-train evaluate {experiment} --write")


def _part(model: CaptioningModel, part: Literal["encoder", "words"]) -> dict[str, Tensor]:
    """Give the tensors that models may have in common: the whole encoder, or the embedding and the output layer."""
    prefixes = {"encoder": ("encoder.",), "words": ("decoder.embedding.", "decoder.output.")}
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefixes[part])}


@app.command()
def evaluate(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    beam_size: Annotated[int | None, typer.Option(help="Instead of the bundle's own.", min=1, max=20)] = None,
    length_penalty: Annotated[float | None, typer.Option(help="Instead of the bundle's own.", min=0, max=2)] = None,
    precision: PrecisionName = "auto",
    dev_only: Annotated[bool, typer.Option("--dev-only", help="Leave the test sets unseen.")] = False,
    captions_file: Annotated[Path | None, typer.Option(help="Write each photo's caption here, as JSON Lines.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the result into the bundle's metrics.json.")] = False,
) -> None:
    """Score a bundle on the experiment's dev and test sets, captioning exactly as the service does.

    Prints BLEU-1 to BLEU-4, ROUGE-L, CIDEr-D and METEOR, and how far they are from the bundle's metrics.json.
    """
    config = load_config(experiment, data_folder)
    captioner = load_captioner(weights_folder, config.name, precision=precision)
    sets = {**_photos(config.dev), **({} if dev_only else _photos(config.test))}
    asked = {"beam_size": beam_size, "length_penalty": length_penalty}
    changed = {key: value for key, value in asked.items() if value is not None}
    options = DecodingOptions.model_validate({**captioner.info.config.decoding.model_dump(), **changed})
    result = _evaluate(captioner, sets, options)
    _print_table(result.metrics["sets"], captioner.info.metrics.get("sets", {}))
    if captions_file is not None:
        _write_captions(captions_file, sets, result)
    if write:
        update_metrics(weights_folder / config.name, {**captioner.info.metrics, **result.metrics})
        typer.echo(f"wrote {weights_folder / config.name / 'metrics.json'}")


@app.command()
def table(
    experiment: Annotated[Path, typer.Option(help="Its test and dev sets are measured on.", dir_okay=False)] = Path(
        "training/configs/soft-attention.toml"
    ),
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    models: Annotated[str | None, typer.Option(help="Only these, with commas between; else every bundle.")] = None,
    output: Annotated[Path, typer.Option(help="The page; a JSON of the same name goes beside it.")] = Path(
        "docs/results.md"
    ),
    readme: Annotated[Path, typer.Option(help="Gets the short form between its table marks.")] = Path("README.md"),
    limit: QuickLook = None,
) -> None:
    """Measure every bundle on the same photos, as the service captions them, and write docs/results.md.

    Scores with bootstrap intervals, which differences are real, milliseconds here, captions side by side; into each
    bundle's metrics.json goes what is its own. METEOR needs Java.
    """
    config = load_config(experiment, data_folder)
    if not config.test:
        raise ConfigError(f"{experiment} names no test set, on which models are compared.")
    names = models.split(",") if models is not None else in_order(list_models(weights_folder))
    if not names:
        raise ConfigError(f"There is no bundle in {weights_folder}.")
    store = SharedTensors()
    captioners = [load_captioner(weights_folder, name, store=store) for name in names]
    sets = {name: photos[:limit] for name, photos in _photos([*config.test, *config.dev]).items()}
    command = " ".join(["glimpse-train table --data-folder DATA", *(["--models", models] if models else [])])
    with tqdm(desc="captions", unit="photo") as bar:
        measured = measure_table(captioners, sets, _examples(output), command, bar.update)
    if limit is not None:
        typer.echo(page({**measured.results, "limit": limit}))
        return
    results, remarks = merge_results(output.with_suffix(".json"), weights_folder, table=measured.results)
    _write_measured(results, remarks, output, readme)
    _write_metrics(weights_folder, captioners, measured.metrics)


@app.command()
def maps(
    experiment: Annotated[
        Path, typer.Option(help="Its first test and dev set are measured on.", dir_okay=False)
    ] = Path("training/configs/base.toml"),
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    models: Annotated[str | None, typer.Option(help="Only these; else every bundle that has maps of its own.")] = None,
    output: Annotated[Path, typer.Option(help="The results page; maps.md and images/ lie beside it.")] = Path(
        "docs/results.md"
    ),
    boxes_folder: Annotated[str, typer.Option(help="Photos with boxes of objects, below the data folder.")] = "boxes",
    page_models: Annotated[
        str, typer.Option(help="Side by side in maps.md, where they are measured; the last one's best and worst.")
    ] = "soft-attention,glimpse",
    write_page: Annotated[bool, typer.Option("--page/--no-page", help="Whether to write maps.md.")] = True,
    with_photos: Annotated[
        Path | None, typer.Option(help="Write maps.md here too, with the photos, which may not be passed on.")
    ] = None,
    limit: QuickLook = None,
) -> None:
    """Measure where the bundles look, put it into docs/results.md beside the table, and write docs/maps.md.

    Attention correctness, pointing and deletion, with bootstrap intervals; into each bundle's metrics.json goes what is
    its own.
    """
    config = load_config(experiment, data_folder)
    if not (config.test and config.dev):
        raise ConfigError(f"{experiment} names no test set or no dev set, which maps are measured on.")
    names = models.split(",") if models is not None else _names_with_maps(weights_folder)
    if not names:
        raise ConfigError(f"There is no bundle with maps of its own in {weights_folder}.")
    test, dev = _photos(config.test[:1]), _photos(config.dev[:1])
    data = read_map_data(config, test, dev, data_folder / boxes_folder, limit)
    store = SharedTensors()
    captioners = [load_captioner(weights_folder, name, store=store) for name in names]
    command = " ".join(["glimpse-train maps --data-folder DATA", *(["--models", models] if models else [])])
    with tqdm(desc="maps", unit="photo") as bar:
        measured = measure_maps(captioners, data, command, bar.update)
    if limit is not None:
        typer.echo(page({"maps": measured.rows, "limit": limit}))
        return
    results, remarks = merge_results(output.with_suffix(".json"), weights_folder, maps=measured.rows)
    _write_measured(results, remarks, output, None)
    _write_metrics(weights_folder, captioners, {name: {"maps": row} for name, row in measured.rows.items()})
    wanted = [name for name in page_models.split(",") if name in list_models(weights_folder)] or names[-1:]
    if missing := ", ".join(name for name in wanted if name not in names):
        typer.echo(f"maps.md is left as it is: it shows {missing}, which was not measured now", err=True)
        return
    by_name = {each.info.name: each for each in captioners}
    shown = [Shown(by_name[name], measured.correctness[name]) for name in wanted]
    if write_page:
        _say_written(render_maps_page(shown, data, _examples(output)).write(output.parent))
    if with_photos is not None:
        _say_written(render_maps_page(shown, data, _examples(output), with_photos=True).write(with_photos))


@app.command()
def calibrate(
    experiment: ExperimentFile,
    model: Annotated[str | None, typer.Option(help="Another bundle than the experiment's own.")] = None,
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    precision: PrecisionName = "auto",
) -> None:
    """Fit a bundle's confidences to what people said of the experiment's dev photos, and measure them on its test sets.

    Writes the calibration into config.json, the errors into metrics.json, and the curve as reliability.svg; prints
    lines for the model card.
    """
    config = load_config(experiment, data_folder)
    folder = weights_folder / (model or config.name)
    captioner = load_captioner(weights_folder, folder.name, precision=precision)
    dev, test = _photos(config.dev), _photos(config.test)
    if not test:
        raise ConfigError(f"{experiment} names no test set: what a calibration is worth can only be measured on one.")
    with tqdm(total=sum(map(len, (*dev.values(), *test.values()))), desc="captions", unit="photo") as bar:
        heard = [{name: hear(captioner, photos, bar.update) for name, photos in sets.items()} for sets in (dev, test)]
    calibrated = fit_calibration(*heard)
    save_calibration(folder, captioner.info, calibrated)
    typer.echo(f"{describe(calibrated.metrics)}\n\nwrote {folder}: config.json, metrics.json, reliability.svg")


def _names_with_maps(weights_folder: Path) -> list[str]:
    names = in_order(list_models(weights_folder))
    return [name for name in names if has_maps(describe_captioner(weights_folder, name))]


def _examples(output: Path) -> list[Path]:
    """Photos beside the results page that may be shown on it."""
    return [path for name in EXAMPLES if (path := output.parent / "images" / f"{name}.jpg").is_file()]


def _write_measured(results: dict[str, Any], remarks: Sequence[str], output: Path, readme: Path | None) -> None:
    _say_written(write_results(results, output, readme))
    for remark in remarks:
        typer.echo(remark, err=True)


def _write_metrics(
    weights_folder: Path, captioners: Sequence[TorchCaptioner], metrics: dict[str, dict[str, Any]]
) -> None:
    """Put what was measured of each bundle into its metrics.json, beside what is there of others."""
    for captioner in captioners:
        name = captioner.info.name
        update_metrics(weights_folder / name, {**captioner.info.metrics, **metrics[name]})
        _say_written([weights_folder / name / "metrics.json"])


def _say_written(paths: Sequence[Path]) -> None:
    for path in paths:
        typer.echo(f"wrote {path}")


def _photos(sets: Sequence[DatasetConfig]) -> dict[str, list[Photo]]:
    """Read sets by name and split; what cannot be used, damaged pictures included, is named and counted."""
    photos = {}
    for each in sets:
        name = f"{each.name} {each.split}" if each.split != "all" else each.name
        photos[name], report = read_dataset(each.model_copy(update={"verify_images": True}))
        if report.problems:
            typer.echo(report.summary(), err=True)
    return photos


def _evaluate(captioner: TorchCaptioner, sets: dict[str, list[Photo]], options: DecodingOptions) -> Evaluation:
    with tqdm(total=sum(map(len, sets.values())), desc="captions", unit="photo") as bar:
        return evaluate_sets(captioner, sets, options, bar.update)


def _print_table(measured: dict[str, dict[str, Any]], stored: dict[str, dict[str, Any]]) -> None:
    """Print a row a metric and set, in percent, beside what metrics.json says."""
    for name, scores in measured.items():
        typer.echo(f"\n{name}: {scores['photos']} photos, {scores['references']} references")
        for metric, value in scores.items():
            if metric not in ("photos", "references"):
                typer.echo(f"  {metric:8} {100 * value:6.2f}{_beside(value, stored.get(name, {}).get(metric))}")
        if "METEOR" not in scores:
            typer.echo("  METEOR   left out: it needs Java and the reference program (pip package pycocoevalcap)")


def _beside(value: float, before: float | None) -> str:
    if before is None:
        return ""
    return f"   metrics.json {100 * before:6.2f}, difference {100 * (value - before):+.2f}"


def _write_captions(path: Path, sets: dict[str, list[Photo]], result: Evaluation) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for name, photos in sets.items():
            for photo, caption in zip(photos, result.captions[name], strict=True):
                line = {"set": name, "key": photo.key, "caption": caption, "references": photo.captions}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def main() -> None:
    """Run the command line; an error that we raise on purpose is one sentence, not a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        app(prog_name="glimpse-train")
    except GlimpseError as error:
        typer.echo(f"glimpse-train: {error}", err=True)
        sys.exit(1)
