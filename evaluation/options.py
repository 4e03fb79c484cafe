"""The options that several commands of `glimpse-train` have in common."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

import typer

from models.errors import ConfigError
from models.runtime.torch import Precision

__all__ = [
    "DataFolder",
    "DeviceName",
    "EncodersFolder",
    "ExperimentFile",
    "PrecisionName",
    "QuickLook",
    "RunsFolder",
    "WeightsFolder",
    "WithoutMeteor",
    "read_names",
]

ExperimentFile = Annotated[
    Path, typer.Argument(help="The experiment's TOML file.", exists=True, dir_okay=False)
]
DataFolder = Annotated[
    Path, typer.Option(help="Folder below which the experiment's data sets lie.")
]
EncodersFolder = Annotated[
    Path, typer.Option(help="Folder of pretrained encoders, NAME.safetensors each.")
]
RunsFolder = Annotated[
    Path, typer.Option(help="Folder for states, curves and caches; one below it per experiment.")
]
WeightsFolder = Annotated[
    Path, typer.Option(help="Folder of model bundles, one below it per model.")
]
DeviceName = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU if there is one.")
]
QuickLook = Annotated[
    int | None,
    typer.Option(
        help="A quick look at the first photos of each set: printed, nothing written.", min=2
    ),
]
PrecisionName = Annotated[
    Precision, typer.Option(help="auto: as the service chooses on this machine.")
]
WithoutMeteor = Annotated[
    bool,
    typer.Option(
        "--without-meteor",
        help="Leave METEOR out, which needs Java; else nothing is written without.",
    ),
]


def read_names(text: str, there: Collection[str]) -> list[str]:
    """Read names of bundles with commas between; raise ConfigError for none, for one twice, or
    not `there`."""
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
