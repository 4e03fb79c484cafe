"""What all jobs need: bundles and images to measure, messages, and metrics put into bundles."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.report.catalog import read_catalog
from models.bundles.reading import add_metrics
from models.bundles.registry import list_models
from models.bundles.shared_tensors import SharedTensors
from models.captioner import NetworkCaptioner
from models.errors import ConfigError
from models.loading import load_served
from models.runtime.torch import Precision
from training.data.datasets import CaptionedImage, DatasetConfig, read_dataset

__all__ = [
    "Messages",
    "example_images",
    "find_bundles",
    "has_meteor",
    "load_all",
    "read_images",
    "read_names",
    "repeated_command",
    "require_meteor",
    "write_metrics",
]


@dataclass(frozen=True, slots=True)
class Messages:
    """Where a job says what it has done, and warns of what it could not do."""

    say: Callable[[str], Any]
    warn: Callable[[str], Any]

    def say_written(self, paths: Sequence[Path]) -> None:
        """Name the files that were written."""
        for path in paths:
            self.say(f"wrote {path}")


def find_bundles(weights_folder: Path, also: Path | None = None) -> dict[str, Path]:
    """Find every bundle: by its name, the folder that it lies in.

    also: a folder of more bundles. Raises ConfigError for a name that is in both folders, and where
    `also` has no bundle.
    """
    found = dict.fromkeys(list_models(weights_folder), weights_folder)
    if also is None:
        return found
    others = list_models(also)
    if not others:
        raise ConfigError(f"There is no bundle in {also}.")
    for name in others:
        if name in found:
            raise ConfigError(
                f"{name} is both in {weights_folder} and in {also}: a row can be of one of them "
                "only."
            )
        found[name] = also
    return found


def read_names(text: str, there: Collection[str]) -> list[str]:
    """Read names of bundles with commas between.

    Raises ConfigError where there is none, one comes twice, or one is not `there`.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    twice = [name for name in names if names.count(name) > 1]
    unknown = [name for name in names if name not in there]
    if not names:
        raise ConfigError(f"--models {text!r} names no bundle.")
    if twice:
        raise ConfigError(f"--models names {twice[0]!r} twice.")
    if unknown:
        known = f"There are: {', '.join(there)}." if there else "There is none."
        raise ConfigError(f"No bundle is called {unknown[0]!r}, which --models names. {known}")
    return names


def load_all(
    folders: Mapping[str, Path],
    names: Sequence[str],
    *,
    precision: Precision = "auto",
    store: SharedTensors | None = None,
) -> list[NetworkCaptioner]:
    """Load bundles as the service does, what they share once. Raises CheckpointError."""
    shared = SharedTensors() if store is None else store
    return [load_served(folders[name], name, precision=precision, store=shared) for name in names]


def read_images(
    datasets: Sequence[DatasetConfig], messages: Messages
) -> dict[str, list[CaptionedImage]]:
    """Read sets by name and split; warn of what cannot be used, damaged images included."""
    images = {}
    for dataset in datasets:
        name = dataset.name if dataset.split == "all" else f"{dataset.name} {dataset.split}"
        verified = dataset.model_copy(update={"verify_images": True})
        images[name], report = read_dataset(verified)
        if report.problems:
            messages.warn(report.summary())
    return images


def example_images(page: Path) -> list[Path]:
    """List the images beside the results page that may be shown on it."""
    names = read_catalog().project.examples
    paths = [page.parent / "images" / f"{name}.jpg" for name in names]
    return [path for path in paths if path.is_file()]


def repeated_command(name: str, models: str | None, *more: str) -> str:
    """Give the command that measures the same again, for the page."""
    words = ["glimpse-train", name, "--data-folder", "DATA"]
    if models:
        words += ["--models", models]
    return " ".join([*words, *more])


def require_meteor(*, there: bool) -> None:
    """Raise ConfigError unless METEOR is `there` (`can_run_meteor`, `has_meteor`)."""
    if not there:
        raise ConfigError(
            "METEOR could not run, and nothing was written without it: it needs Java and the "
            "reference program (pip package pycocoevalcap), or give --without-meteor to leave it "
            "out."
        )


def has_meteor(metrics: Mapping[str, Any]) -> bool:
    """Tell whether METEOR was scored on every set of what a metrics.json keeps."""
    return all("METEOR" in scores for scores in metrics["sets"].values())


def write_metrics(
    folders: Mapping[str, Path], metrics: Mapping[str, dict[str, Any]], messages: Messages
) -> None:
    """Put what was measured of each bundle into its metrics.json, beside what is there already."""
    for name, measured in metrics.items():
        bundle = folders[name] / name
        add_metrics(bundle, measured)
        messages.say_written([bundle / "metrics.json"])
