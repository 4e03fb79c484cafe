"""The arguments and options of the commands, with the bounds of the library. Knows no models."""

from pathlib import Path
from typing import Annotated, Any

import typer
from annotated_types import Ge, Le

from app.bulk.formats import OutputFormat
from models.config import DecodingOptions

__all__ = [
    "BeamSize",
    "CpusPerWorker",
    "Format",
    "Json",
    "KeepTimes",
    "LengthPenalty",
    "MaxLength",
    "MaxWorkers",
    "MinWorkers",
    "ModelName",
    "NumCaptions",
    "Out",
    "Output",
    "OverwriteXmp",
    "Photo",
    "Photos",
    "Quiet",
    "RayAddress",
    "Source",
    "Word",
    "WriteXmp",
    "decoding_options",
]


def _option(name: str) -> Any:
    """Make the option of a decoding option; left out, the model's own value holds."""
    field = DecodingOptions.model_fields[name]
    number = float if field.annotation is float else int
    least = next(str(bound.ge) for bound in field.metadata if isinstance(bound, Ge))
    most = next(str(bound.le) for bound in field.metadata if isinstance(bound, Le))
    description = f"{str(field.description).capitalize()}; left out, as the model was tuned."
    return typer.Option(
        min=number(least),
        max=number(most),
        help=description,
        show_default=False,
        rich_help_panel="Captions",
    )


ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Which one `glimpse models` lists; left out, GLIMPSE_MODEL.",
        show_default=False,
        rich_help_panel="Captions",
    ),
]
BeamSize = Annotated[int | None, _option("beam_size")]
NumCaptions = Annotated[int | None, _option("num_captions")]
MaxLength = Annotated[int | None, _option("max_length")]
LengthPenalty = Annotated[float | None, _option("length_penalty")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Caption on a Ray cluster: host:6379, ray://host:10001, or local for one of this "
        "machine alone. Its machines see PHOTOS and --out under the same names.",
        show_default=False,
        rich_help_panel="Many machines",
    ),
]
MinWorkers = Annotated[
    int,
    typer.Option(min=1, help="With --ray: workers at the start.", rich_help_panel="Many machines"),
]
MaxWorkers = Annotated[
    int,
    typer.Option(
        min=1,
        help="With --ray: most workers, as the cluster has room for them.",
        rich_help_panel="Many machines",
    ),
]
CpusPerWorker = Annotated[
    int,
    typer.Option(
        min=1, help="With --ray: processors of each worker.", rich_help_panel="Many machines"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, with everything that is known.")]

Photos = Annotated[
    list[str],
    typer.Argument(
        metavar="PHOTO...", help="Files, folders, or - for standard input.", show_default=False
    ),
]
Photo = Annotated[str, typer.Argument(metavar="PHOTO", help="A file, or - for standard input.")]
Source = Annotated[
    str,
    typer.Argument(
        metavar="PHOTOS",
        help="A folder, with those inside it; a text file that names a photo on each line; or an "
        "object store, such as s3://bucket/photos.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="The drawing, a PNG file; - is standard output."),
]
Word = Annotated[
    int | None,
    typer.Option(min=0, max=49, help="Draw the map of this word alone, counted from 0."),
]
Out = Annotated[
    Path, typer.Option(help="Where the captions go: a .jsonl or .csv file, or a .parquet folder.")
]
Format = Annotated[
    OutputFormat | None,
    typer.Option("--format", help="The output's format; left out, as its name ends."),
]
WriteXmp = Annotated[
    bool,
    typer.Option(
        "--write-xmp",
        help="Put each caption into its photo too, as description and alt text (XMP), where it has "
        "none. JPEG, PNG and WebP; pixels stay as they are.",
    ),
]
OverwriteXmp = Annotated[
    bool, typer.Option("--overwrite-xmp", help="With --write-xmp: replace what is there.")
]
KeepTimes = Annotated[
    bool, typer.Option("--keep-times", help="With --write-xmp: leave files' times as they are.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but what is wrong.")]


def decoding_options(
    beam_size: int | None,
    num_captions: int | None,
    max_length: int | None,
    length_penalty: float | None,
) -> dict[str, float]:
    """Gather the decoding options that were given."""
    given = {
        "beam_size": beam_size,
        "num_captions": num_captions,
        "max_length": max_length,
        "length_penalty": length_penalty,
    }
    return {name: value for name, value in given.items() if value is not None}
