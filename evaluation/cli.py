"""The commands of `glimpse-train` that measure bundles: evaluate, table, maps, calibrate. Thin:
they read and call."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from evaluation.captioning import Evaluation, evaluate_sets, group_by_encoding
from evaluation.measures.attention_maps import annotator, remembered
from evaluation.measures.calibration import calibrate as fit_calibration
from evaluation.measures.calibration import caption_with_usage, describe, save_calibration
from evaluation.measures.comparison import EXAMPLES, in_order, measure_table
from evaluation.measures.lineage import describe_origins
from evaluation.metrics.score import meteor
from evaluation.options import (
    DataFolder,
    ExperimentFile,
    PrecisionName,
    QuickLook,
    WeightsFolder,
    WithoutMeteor,
    read_names,
)
from evaluation.report.maps_page import Shown, render_maps_page
from evaluation.report.results_page import page, write_results
from evaluation.results import has_soft_maps, measure_maps, merge_results, read_map_data
from models.bundles.checkpoint import add_metrics, load_checkpoint
from models.bundles.registry import list_models
from models.bundles.shared_tensors import SharedTensors
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.errors import ConfigError
from models.loading import describe_captioner, load_captioner
from training.config import load_config
from training.data.datasets import CaptionedImage, DatasetConfig, read_dataset

__all__ = ["calibrate", "evaluate", "maps", "table"]

_RESULTS = Path("docs/results.md")


def evaluate(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    beam_size: Annotated[
        int | None, typer.Option(help="Instead of the bundle's own.", min=1, max=20)
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="Instead of the bundle's own.", min=0, max=2)
    ] = None,
    precision: PrecisionName = "auto",
    dev_only: Annotated[
        bool, typer.Option("--dev-only", help="Leave the test sets unseen.")
    ] = False,
    captions_file: Annotated[
        Path | None, typer.Option(help="Write each photo's caption here, as JSON Lines.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Put the result into the bundle's metrics.json.")
    ] = False,
    without_meteor: WithoutMeteor = False,
) -> None:
    """Score a bundle on the experiment's dev and test sets, captioning exactly as the service does.

    Prints BLEU-1 to BLEU-4, ROUGE-L, CIDEr-D and METEOR, and how far they are from the bundle's
    metrics.json.
    """
    config = load_config(experiment, data_folder)
    if write and not without_meteor:
        _require_meteor(there=meteor([["a"]], ["a"]) is not None)
    captioner = load_captioner(weights_folder, config.name, precision=precision)
    sets = {**_photos(config.dev), **({} if dev_only else _photos(config.test))}
    asked = {"beam_size": beam_size, "length_penalty": length_penalty}
    changed = {key: value for key, value in asked.items() if value is not None}
    options = DecodingOptions.model_validate(
        {**captioner.info.config.decoding.model_dump(), **changed}
    )
    result = _evaluate(captioner, sets, options, with_meteor=not without_meteor)
    _print_table(result.metrics["sets"], captioner.info.metrics.get("sets", {}))
    if captions_file is not None:
        _write_captions(captions_file, sets, result)
    if write:
        _require_meteor(there=without_meteor or _has_meteor(result.metrics))
        add_metrics(weights_folder / config.name, result.metrics)
        typer.echo(f"wrote {weights_folder / config.name / 'metrics.json'}")


def table(
    experiment: Annotated[
        Path, typer.Option(help="Its test and dev sets are measured on.", dir_okay=False)
    ] = Path("training/configs/base.toml"),
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    models: Annotated[
        str | None,
        typer.Option(
            help="Only these, with commas between: printed, and written only where --output says "
            "so."
        ),
    ] = None,
    also: Annotated[
        Path | None,
        typer.Option(
            help="Folder of more bundles, which are not shipped and marked so.", file_okay=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The page, with a JSON of the same name; docs/results.md, but none with --models."
        ),
    ] = None,
    readme: Annotated[
        Path | None,
        typer.Option(
            help="Gets the short form between its table marks; README.md, but none with --models."
        ),
    ] = None,
    without_meteor: WithoutMeteor = False,
    limit: QuickLook = None,
) -> None:
    """Measure every bundle on the same photos, as the service captions them, and write
    docs/results.md.

    Scores with bootstrap intervals, which differences are real, milliseconds here, captions side by
    side; into each bundle's metrics.json goes what is its own. METEOR needs Java.
    """
    config = load_config(experiment, data_folder)
    if not config.test:
        raise ConfigError(f"{experiment} names no test set, on which models are compared.")
    if models is not None and output is not None and output.resolve() == _RESULTS.resolve():
        raise ConfigError(
            f"{_RESULTS} is the page of all bundles: with --models, give --output another file."
        )
    writes = limit is None and (models is None or output is not None)
    if writes and not without_meteor:
        _require_meteor(there=meteor([["a"]], ["a"]) is not None)
    folders = _folders(weights_folder, also)
    names = read_names(models, folders) if models is not None else in_order(list(folders))
    if not names:
        raise ConfigError(f"There is no bundle in {weights_folder}.")
    store = SharedTensors()
    captioners = [load_captioner(folders[name], name, store=store) for name in names]
    sets = {name: photos[:limit] for name, photos in _photos([*config.test, *config.dev]).items()}
    command = _command("table", models) + " --also FOLDER" * (also is not None)
    with tqdm(desc="captions", unit="photo") as bar:
        measured = measure_table(
            captioners,
            sets,
            _examples(output or _RESULTS),
            command,
            bar.update,
            with_meteor=not without_meteor,
        )
    results = {
        **measured.results,
        "not_shipped": [name for name in names if folders[name] != weights_folder],
        "origins": describe_origins(
            {name: load_checkpoint(folders[name] / name, store).model for name in names},
            experiment.parent,
        ),
    }
    if not writes:
        typer.echo(page({**results, **({"limit": limit} if limit is not None else {})}))
        return
    _require_meteor(there=without_meteor or all(map(_has_meteor, measured.metrics.values())))
    output, readme = output or _RESULTS, readme or (Path("README.md") if models is None else None)
    results, remarks = merge_results(output.with_suffix(".json"), weights_folder, table=results)
    _write_measured(results, remarks, output, readme)
    _write_metrics(folders, captioners, measured.metrics)


def maps(
    experiment: Annotated[
        Path, typer.Option(help="Its first test and dev set are measured on.", dir_okay=False)
    ] = Path("training/configs/base.toml"),
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    models: Annotated[
        str | None, typer.Option(help="Only these; else every bundle that has maps of its own.")
    ] = None,
    output: Annotated[
        Path, typer.Option(help="The results page; maps.md and images/ lie beside it.")
    ] = _RESULTS,
    boxes_folder: Annotated[
        str, typer.Option(help="Photos with boxes of objects, below the data folder.")
    ] = "boxes",
    page_models: Annotated[
        str,
        typer.Option(
            help="Side by side in maps.md, where they are measured; the last one's best and worst."
        ),
    ] = "soft-attention,glimpse",
    write_page: Annotated[
        bool, typer.Option("--page/--no-page", help="Whether to write maps.md.")
    ] = True,
    with_photos: Annotated[
        Path | None,
        typer.Option(help="Write maps.md here too, with the photos, which may not be passed on."),
    ] = None,
    limit: QuickLook = None,
) -> None:
    """Measure where the bundles look, put it into docs/results.md beside the table, and write
    docs/maps.md.

    Attention correctness, pointing and deletion, with bootstrap intervals; into each bundle's
    metrics.json goes what is its own.
    """
    config = load_config(experiment, data_folder)
    if not (config.test and config.dev):
        raise ConfigError(
            f"{experiment} names no test set or no dev set, which maps are measured on."
        )
    there = list_models(weights_folder)
    names = read_names(models, there) if models is not None else _names_with_maps(weights_folder)
    if not names:
        raise ConfigError(f"There is no bundle with maps of its own in {weights_folder}.")
    test, dev = _photos(config.test[:1]), _photos(config.dev[:1])
    data = read_map_data(config, test, dev, data_folder / boxes_folder, limit)
    store = SharedTensors()
    captioners = [load_captioner(weights_folder, name, store=store) for name in names]
    with tqdm(desc="maps", unit="photo") as bar:
        measured = measure_maps(captioners, data, _command("maps", models), bar.update)
    if limit is not None:
        typer.echo(page({"maps": measured.rows, "limit": limit}))
        return
    results, remarks = merge_results(
        output.with_suffix(".json"), weights_folder, maps=measured.rows
    )
    _write_measured(results, remarks, output, None)
    _write_metrics(
        dict.fromkeys(names, weights_folder),
        captioners,
        {name: {"maps": row} for name, row in measured.rows.items()},
    )
    if not write_page and with_photos is None:
        return
    wanted = [name for name in map(str.strip, page_models.split(",")) if name in there] or names[
        -1:
    ]
    if missing := ", ".join(name for name in wanted if name not in names):
        typer.echo(
            f"maps.md is left as it is: it shows {missing}, which was not measured now", err=True
        )
        return
    by_name = {each.info.name: each for each in captioners}
    shown = [Shown(by_name[name], measured.correctness[name]) for name in wanted]
    if write_page:
        _say_written(render_maps_page(shown, data, _examples(output)).write(output.parent))
    if with_photos is not None:
        _say_written(
            render_maps_page(shown, data, _examples(output), with_photos=True).write(with_photos)
        )


def calibrate(
    experiment: ExperimentFile,
    models: Annotated[
        str | None, typer.Option(help="Bundles, with commas between; else the experiment's own.")
    ] = None,
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    precision: PrecisionName = "auto",
) -> None:
    """Fit bundles' confidences to what people said of the experiment's dev photos, and measure them
    on its test sets.

    Writes the calibration into config.json, the errors into metrics.json, and the curve as
    reliability.svg; prints lines for the model card. Models with one encoder share its work.
    """
    config = load_config(experiment, data_folder)
    names = read_names(models, list_models(weights_folder)) if models is not None else [config.name]
    store = SharedTensors()
    captioners = [
        load_captioner(weights_folder, name, precision=precision, store=store) for name in names
    ]
    dev, test = _photos(config.dev), _photos(config.test)
    if not test:
        raise ConfigError(
            f"{experiment} names no test set: what a calibration is worth can only be measured on "
            "one."
        )
    photos = sum(map(len, (*dev.values(), *test.values())))
    with tqdm(total=photos * len(captioners), desc="captions", unit="photo") as bar:
        for group in group_by_encoding(captioners):
            annotate = remembered(annotator(group[0]))
            for captioner in group:
                heard = [
                    {
                        name: caption_with_usage(captioner, each, bar.update, annotate)
                        for name, each in sets.items()
                    }
                    for sets in (dev, test)
                ]
                calibrated, folder = fit_calibration(*heard), weights_folder / captioner.info.name
                save_calibration(folder, captioner.info, calibrated)
                typer.echo(
                    f"{describe(calibrated.metrics)}\n\nwrote {folder}: config.json, metrics.json, "
                    "reliability.svg"
                )


def _folders(weights_folder: Path, also: Path | None) -> dict[str, Path]:
    """Find every bundle, by name the folder that it is in; raise ConfigError for a name that is
    in both."""
    shipped, others = list_models(weights_folder), list_models(also) if also is not None else []
    if also is not None and not others:
        raise ConfigError(f"There is no bundle in {also}.")
    if both := sorted(set(shipped) & set(others)):
        raise ConfigError(
            f"{both[0]} is both in {weights_folder} and in {also}: a row can be of one of them "
            "only."
        )
    return dict.fromkeys(shipped, weights_folder) | {
        name: also for name in others if also is not None
    }


def _command(name: str, models: str | None) -> str:
    return " ".join(
        [f"glimpse-train {name} --data-folder DATA", *(["--models", models] if models else [])]
    )


def _has_meteor(metrics: dict[str, Any]) -> bool:
    return all("METEOR" in scores for scores in metrics["sets"].values())


def _require_meteor(*, there: bool) -> None:
    if not there:
        raise ConfigError(
            "METEOR could not run, and nothing was written without it: it needs Java and the "
            "reference program (pip "
            "package pycocoevalcap), or give --without-meteor to leave it out."
        )


def _names_with_maps(weights_folder: Path) -> list[str]:
    names = in_order(list_models(weights_folder))
    return [name for name in names if has_soft_maps(describe_captioner(weights_folder, name))]


def _examples(output: Path) -> list[Path]:
    """Photos beside the results page that may be shown on it."""
    return [
        path for name in EXAMPLES if (path := output.parent / "images" / f"{name}.jpg").is_file()
    ]


def _write_measured(
    results: dict[str, Any], remarks: Sequence[str], output: Path, readme: Path | None
) -> None:
    _say_written(write_results(results, output, readme))
    for remark in remarks:
        typer.echo(remark, err=True)


def _write_metrics(
    folders: Mapping[str, Path],
    captioners: Sequence[NetworkCaptioner],
    metrics: dict[str, dict[str, Any]],
) -> None:
    """Put what was measured of each bundle into its metrics.json, beside what is there of
    others."""
    for captioner in captioners:
        bundle = folders[captioner.info.name] / captioner.info.name
        add_metrics(bundle, metrics[captioner.info.name])
        _say_written([bundle / "metrics.json"])


def _say_written(paths: Sequence[Path]) -> None:
    for path in paths:
        typer.echo(f"wrote {path}")


def _photos(sets: Sequence[DatasetConfig]) -> dict[str, list[CaptionedImage]]:
    """Read sets by name and split; what cannot be used, damaged pictures included, is named and
    counted."""
    photos = {}
    for each in sets:
        name = f"{each.name} {each.split}" if each.split != "all" else each.name
        photos[name], report = read_dataset(each.model_copy(update={"verify_images": True}))
        if report.problems:
            typer.echo(report.summary(), err=True)
    return photos


def _evaluate(
    captioner: NetworkCaptioner,
    sets: dict[str, list[CaptionedImage]],
    options: DecodingOptions,
    *,
    with_meteor: bool,
) -> Evaluation:
    with tqdm(total=sum(map(len, sets.values())), desc="captions", unit="photo") as bar:
        return evaluate_sets(captioner, sets, options, bar.update, with_meteor=with_meteor)


def _print_table(measured: dict[str, dict[str, Any]], stored: dict[str, dict[str, Any]]) -> None:
    """Print a row a metric and set, in percent, beside what metrics.json says."""
    for name, scores in measured.items():
        typer.echo(f"\n{name}: {scores['photos']} photos, {scores['references']} references")
        for metric, value in scores.items():
            if metric not in ("photos", "references"):
                typer.echo(
                    f"  {metric:8} "
                    f"{100 * value:6.2f}{_beside(value, stored.get(name, {}).get(metric))}"
                )
        if "METEOR" not in scores:
            typer.echo(
                "  METEOR   left out: it needs Java and the reference program (pip package "
                "pycocoevalcap)"
            )


def _beside(value: float, before: float | None) -> str:
    if before is None:
        return ""
    return f"   metrics.json {100 * before:6.2f}, difference {100 * (value - before):+.2f}"


def _write_captions(path: Path, sets: dict[str, list[CaptionedImage]], result: Evaluation) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for name, photos in sets.items():
            for photo, caption in zip(photos, result.captions[name], strict=True):
                line = {
                    "set": name,
                    "key": photo.key,
                    "caption": caption,
                    "references": photo.captions,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
