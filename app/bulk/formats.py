"""The formats of an output, and which one a name asks for. Knows neither rows nor files."""

from enum import StrEnum
from pathlib import Path

from app.core.errors import BulkOutputError

__all__ = ["OutputFormat", "choose_format"]


class OutputFormat(StrEnum):
    """How an output is written."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


def choose_format(path: Path, asked: OutputFormat | None) -> OutputFormat:
    """Tell the format of an output: what was asked, or what its name says.

    Raises BulkOutputError where neither says it.
    """
    if asked is not None:
        return asked
    suffix = path.suffix.lower().removeprefix(".")
    try:
        return OutputFormat({"ndjson": "jsonl"}.get(suffix, suffix))
    except ValueError:
        raise BulkOutputError(
            f"{path} does not say in which format to write. Let it end in .jsonl, .csv or "
            ".parquet, or choose one with --format."
        ) from None
