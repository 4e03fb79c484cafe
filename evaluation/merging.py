"""What was just measured, put beside what the results document holds already. Measures nothing.

`glimpse-train table` and `glimpse-train maps` share one document: each replaces its own part. What
was measured on other weights than a bundle has now is dropped or named.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evaluation.map_results import MapsResult
from evaluation.results import Results, Table, split_keys
from models.bundles.registry import describe_model
from models.errors import CheckpointError, UnknownModelError
from training.data.datasets import DataError

__all__ = ["merge_results"]


def merge_results(
    document: Path,
    weights_folder: Path,
    in_order: Callable[[Sequence[str]], list[str]],
    *,
    table: Table | None = None,
    maps: Mapping[str, MapsResult] | None = None,
) -> tuple[Results, list[str]]:
    """Merge what was measured into the results in `document`, which may be absent.

    table: replaces the table that was there. maps: rows that replace those of the same models.
    in_order: sorts models for the page. Maps of weights that the weights folder no longer holds are
    dropped. Gives the results, and remarks on what was dropped or is out of date. Raises DataError
    for a document of another kind.
    """
    known = _read_document(document)
    own, known_table = split_keys(known)
    remarks = []
    if table is None and known_table:
        table = _parse_table(known_table)
        if table is None:
            remarks.append(f"dropped the table of {document}, which is of an older form")
    rows = _parse_maps(own.get("maps", {}))
    for name, row in (maps or {}).items():
        rows[name] = row
    kept = {}
    for name in in_order(list(rows)):
        result = rows[name]
        if result is not None and result.digest == _digest(weights_folder, name):
            kept[name] = result
    for name in rows:
        if name not in kept:
            remarks.append(f"dropped the maps of {name}: they were measured on other weights")
    if table is not None:
        remarks += _outdated(table, weights_folder)
    return Results(table=table, maps=kept), remarks


def _outdated(table: Table, weights_folder: Path) -> list[str]:
    """Name the rows of shipped models that were measured on other weights."""
    return [
        f"the table's row of {name} was measured on other weights: run glimpse-train table again"
        for name, row in table.shipped().items()
        if row.digest != _digest(weights_folder, name)
    ]


def _read_document(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as JSON ({error}); remove it to begin anew."
        ) from error
    if not isinstance(document, dict):
        raise DataError(f"{path} holds no results; remove it to begin anew.")
    return document


def _parse_table(document: Mapping[str, Any]) -> Table | None:
    """Read a table; None for one of an older form."""
    try:
        return Table.model_validate(document)
    except ValidationError:
        return None


def _parse_maps(document: Mapping[str, Any]) -> dict[str, MapsResult | None]:
    """Read rows of maps; None for one of an older form, which does not name its weights."""
    rows: dict[str, MapsResult | None] = {}
    for name, row in document.items():
        try:
            rows[name] = MapsResult.model_validate(row)
        except ValidationError:
            rows[name] = None
    return rows


def _digest(weights_folder: Path, name: str) -> str | None:
    """Give the digest of a model's weights; None where the bundle is absent or damaged."""
    try:
        return describe_model(weights_folder, name).digest
    except (UnknownModelError, CheckpointError):
        return None
