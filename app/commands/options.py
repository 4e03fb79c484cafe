"""The options that several commands have, with the bounds of the library. Knows no models."""

from typing import Annotated, Any

import typer
from annotated_types import Ge, Le

from models.config import DecodingOptions

__all__ = [
    "BeamSize",
    "CpusPerWorker",
    "Json",
    "LengthPenalty",
    "MaxLength",
    "MaxWorkers",
    "MinWorkers",
    "ModelName",
    "NumCaptions",
    "RayAddress",
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
        "machine alone. Its machines see FOLDER and --out under the same names.",
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
