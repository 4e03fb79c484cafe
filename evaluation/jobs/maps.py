"""Measure where the bundles look, and write the results page and the page of maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from evaluation.jobs.bundles import (
    Messages,
    example_images,
    find_bundles,
    load_all,
    read_images,
    read_names,
    repeated_command,
    write_metrics,
)
from evaluation.measures.maps import (
    MapData,
    MeasuredMaps,
    has_own_maps,
    measure_maps,
    read_map_data,
)
from evaluation.merging import merge_results
from evaluation.report.catalog import read_catalog
from evaluation.report.maps_page import ShownModel, render_maps_page
from evaluation.report.results_page import page, write_results
from evaluation.results import Results
from models.captioner import NetworkCaptioner
from models.errors import ConfigError
from models.loading import describe_captioner
from training.config import load_config

__all__ = ["MapsRequest", "map_bundles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapsRequest:
    """Whose maps to measure, and where to write it.

    experiment: its first test and dev set are measured on. models: names with commas between; else
    all bundles with maps of their own. output: the results page; maps.md lies beside it.
    boxes_folder: images with boxes of objects, below the data folder. page_models: shown side by
    side in maps.md. with_images: a folder for maps.md with the images, which may not be passed on.
    limit: only the first images of each set, and nothing is written.
    """

    experiment: Path
    data_folder: Path
    weights_folder: Path
    output: Path
    boxes_folder: str
    page_models: str
    models: str | None = None
    write_page: bool = True
    with_images: Path | None = None
    limit: int | None = None


def map_bundles(request: MapsRequest, messages: Messages) -> None:
    """Measure the maps of bundles; print the page, or write it, the bundles' metrics.json, maps.md.

    Raises GlimpseError where a bundle or the data cannot be used.
    """
    folders = find_bundles(request.weights_folder)
    names = _choose_names(request, folders)
    data = _read_data(request, messages)
    captioners = load_all(folders, names)
    with tqdm(desc="maps", unit="photo") as bar:
        command = repeated_command("maps", request.models)
        measured = measure_maps(captioners, data, command, bar.update)
    if request.limit is not None:
        messages.say(page(Results(maps=measured.rows, limit=request.limit)))
        return
    _write_results(request, measured, messages)
    rows = {each.info.name: measured.rows[each.info.name] for each in captioners}
    metrics = {name: {"maps": row.model_dump(mode="json")} for name, row in rows.items()}
    write_metrics(folders, metrics, messages)
    if request.write_page or request.with_images is not None:
        _write_maps_page(request, captioners, measured, data, messages)


def _read_data(request: MapsRequest, messages: Messages) -> MapData:
    config = load_config(request.experiment, request.data_folder)
    if not (config.test and config.dev):
        raise ConfigError(
            f"{request.experiment} names no test set or no dev set, which maps are measured on."
        )
    return read_map_data(
        config,
        read_images(config.test[:1], messages),
        read_images(config.dev[:1], messages),
        request.data_folder / request.boxes_folder,
        request.limit,
    )


def _choose_names(request: MapsRequest, folders: Mapping[str, Path]) -> list[str]:
    if request.models is not None:
        return read_names(request.models, folders)
    names = [
        name
        for name in read_catalog().in_order(list(folders))
        if has_own_maps(describe_captioner(folders[name], name))
    ]
    if not names:
        raise ConfigError(f"There is no bundle with maps of its own in {request.weights_folder}.")
    return names


def _write_results(request: MapsRequest, measured: MeasuredMaps, messages: Messages) -> None:
    results, remarks = merge_results(
        request.output.with_suffix(".json"),
        request.weights_folder,
        read_catalog().in_order,
        maps=measured.rows,
    )
    messages.say_written(write_results(results, request.output, None))
    for remark in remarks:
        messages.warn(remark)


def _write_maps_page(
    request: MapsRequest,
    captioners: Sequence[NetworkCaptioner],
    measured: MeasuredMaps,
    data: MapData,
    messages: Messages,
) -> None:
    """Write maps.md of the models that it shows; warn where one of them was not measured now."""
    by_name = {each.info.name: each for each in captioners}
    there = find_bundles(request.weights_folder)
    wanted = [name for name in map(str.strip, request.page_models.split(",")) if name in there]
    if not wanted:
        wanted = [captioners[-1].info.name]
    missing = ", ".join(name for name in wanted if name not in by_name)
    if missing:
        messages.warn(f"maps.md is left as it is: it shows {missing}, which was not measured now")
        return
    shown = [ShownModel(by_name[name], measured.correctness[name]) for name in wanted]
    examples = example_images(request.output)
    if request.write_page:
        written = render_maps_page(shown, data, examples)
        messages.say_written(written.write(request.output.parent))
    if request.with_images is not None:
        written = render_maps_page(shown, data, examples, with_images=True)
        messages.say_written(written.write(request.with_images))
