"""The options that several commands of `glimpse-train` have in common."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from models.runtime.torch import Precision

__all__ = [
    "ComparedModels",
    "DataFolder",
    "DeviceName",
    "EncodersFolder",
    "ExperimentFile",
    "MoreBundles",
    "PageFile",
    "PageModels",
    "PhotosPage",
    "PrecisionName",
    "QuickLook",
    "ReadmeFile",
    "RunsFolder",
    "WeightsFolder",
    "WithoutMeteor",
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
ComparedModels = Annotated[
    str | None,
    typer.Option(
        help="Only these, with commas between: printed, and written only where --output says so."
    ),
]
MoreBundles = Annotated[
    Path | None,
    typer.Option(
        help="Folder of more bundles, which are not shipped and marked so.", file_okay=False
    ),
]
PageFile = Annotated[
    Path | None,
    typer.Option(
        help="The page, with a JSON of the same name; docs/results.md, but none with --models."
    ),
]
ReadmeFile = Annotated[
    Path | None,
    typer.Option(
        help="Gets the short form between its table marks; README.md, but none with --models."
    ),
]
PageModels = Annotated[
    str,
    typer.Option(
        help="Side by side in maps.md, where they are measured; the last one's best and worst."
    ),
]
PhotosPage = Annotated[
    Path | None,
    typer.Option(help="Write maps.md here too, with the photos, which may not be passed on."),
]
