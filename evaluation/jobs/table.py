"""Measure every bundle on the same images, and write the results page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from evaluation.jobs.bundles import (
    Messages,
    example_images,
    find_bundles,
    has_meteor,
    load_all,
    read_images,
    read_names,
    repeated_command,
    require_meteor,
    write_metrics,
)
from evaluation.measures.comparison import MeasuredTable, measure_table
from evaluation.measures.lineage import describe_lineage
from evaluation.merging import merge_results
from evaluation.metrics.meteor import can_run_meteor
from evaluation.report.catalog import read_catalog
from evaluation.report.results_page import page, write_results
from evaluation.results import Lineage, Results, Table
from models.bundles.checkpoint import load_checkpoint
from models.bundles.shared_tensors import SharedTensors
from models.errors import ConfigError
from training.config import TrainConfig, load_config
from training.data.datasets import CaptionedImage

__all__ = ["RESULTS_PAGE", "TableRequest", "compare_bundles"]

RESULTS_PAGE = Path("docs/results.md")
_README = Path("README.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRequest:
    """What to compare, and where to write it.

    experiment: its test and dev sets are measured on; its folder has the other experiments. models:
    names with commas between; else all bundles. also: a folder of bundles that are not shipped.
    output, readme: pages; without a choice of models, those of the project. limit: only the first
    images of each set, and nothing is written.
    """

    experiment: Path
    data_folder: Path
    weights_folder: Path
    models: str | None = None
    also: Path | None = None
    output: Path | None = None
    readme: Path | None = None
    with_meteor: bool = True
    limit: int | None = None

    @property
    def writes(self) -> bool:
        """Whether anything is written: not of a part of the models without a page of its own."""
        return self.limit is None and (self.models is None or self.output is not None)

    def command(self) -> str:
        """Give the command for the page."""
        more = () if self.also is None else ("--also", "FOLDER")
        return repeated_command("table", self.models, *more)


def compare_bundles(request: TableRequest, messages: Messages) -> None:
    """Measure bundles side by side; print the page, or write it and the bundles' metrics.json.

    Raises GlimpseError where a bundle or the data cannot be used, and where METEOR is to be written
    and cannot run.
    """
    config = _read_config(request)
    if request.writes and request.with_meteor:
        require_meteor(there=can_run_meteor())
    folders = find_bundles(request.weights_folder, request.also)
    names = _choose_names(request, folders)
    sets = {
        name: images[: request.limit]
        for name, images in read_images([*config.test, *config.dev], messages).items()
    }
    measured, lineage = _measure(request, folders, names, sets)
    not_shipped = tuple(name for name in names if folders[name] != request.weights_folder)
    table = measured.table.model_copy(update={"not_shipped": not_shipped, "lineage": lineage})
    if not request.writes:
        messages.say(page(Results(table=table, limit=request.limit)))
        return
    if request.with_meteor:
        require_meteor(there=all(map(has_meteor, measured.metrics.values())))
    _write_pages(request, table, messages)
    write_metrics(folders, measured.metrics, messages)


def _read_config(request: TableRequest) -> TrainConfig:
    config = load_config(request.experiment, request.data_folder)
    if not config.test:
        raise ConfigError(f"{request.experiment} names no test set, on which models are compared.")
    output = request.output
    is_whole_page = output is not None and output.resolve() == RESULTS_PAGE.resolve()
    if request.models is not None and is_whole_page:
        raise ConfigError(
            f"{RESULTS_PAGE} is the page of all bundles: with --models, give --output another file."
        )
    return config


def _choose_names(request: TableRequest, folders: Mapping[str, Path]) -> list[str]:
    if request.models is not None:
        return read_names(request.models, folders)
    names = read_catalog().in_order(list(folders))
    if not names:
        raise ConfigError(f"There is no bundle in {request.weights_folder}.")
    return names


def _measure(
    request: TableRequest,
    folders: Mapping[str, Path],
    names: Sequence[str],
    sets: Mapping[str, Sequence[CaptionedImage]],
) -> tuple[MeasuredTable, dict[str, Lineage]]:
    """Load the bundles, measure them, and compare their weights with those that they began from."""
    store = SharedTensors()
    captioners = load_all(folders, names, store=store)
    with tqdm(desc="captions", unit="photo") as bar:
        measured = measure_table(
            captioners,
            sets,
            example_images(request.output or RESULTS_PAGE),
            request.command(),
            bar.update,
            with_meteor=request.with_meteor,
        )
    networks = {name: load_checkpoint(folders[name] / name, store).model for name in names}
    return measured, describe_lineage(networks, request.experiment.parent)


def _write_pages(request: TableRequest, table: Table, messages: Messages) -> None:
    output = request.output or RESULTS_PAGE
    readme = request.readme
    if readme is None and request.models is None:
        readme = _README
    results, remarks = merge_results(
        output.with_suffix(".json"),
        request.weights_folder,
        read_catalog().in_order,
        table=table,
    )
    messages.say_written(write_results(results, output, readme))
    for remark in remarks:
        messages.warn(remark)
