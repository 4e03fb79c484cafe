"""`glimpse models`: which models there are, without loading one."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from app.api.answers import model_description
from app.api.schemas import ModelDescription, ModelList
from app.commands.terminal import FAILED, WELL, WRONG_USE, say, write_line
from app.core.settings import Settings
from app.engine.build import build_catalog
from app.engine.records import ModelStatus
from models.errors import GlimpseError, RuntimeMissingError

__all__ = ["list_models"]

_HEADS = ("model", "parameters", "CIDEr-D", "calibrated", "problem")
_SET, _METRIC = "flickr8k test", "CIDEr-D"


def list_models(settings: Settings, *, as_json: bool) -> int:
    """Write a table of the models, or what `GET /models` answers; tell whether all can be used.

    One that needs a runtime which is not installed is none that failed.
    """
    catalog = build_catalog(settings)
    statuses = []
    failed = False
    for name in catalog.names():
        try:
            statuses.append(ModelStatus(name, False, catalog.describe(name)))
        except RuntimeMissingError as error:
            statuses.append(ModelStatus(name, False, None, problem=str(error)))
        except GlimpseError as error:
            say(str(error))
            failed = True
            statuses.append(ModelStatus(name, False, None))
    needy = [status for status in statuses if status.problem is not None]
    if needy:
        names = ", ".join(status.name for status in needy)
        say(f"Not with what is installed here: {names}. {needy[0].problem}")
    models = [model_description(status, settings.model) for status in statuses]
    if not models:
        say(f"There are no models in {settings.weights_folder}.")
        return WRONG_USE
    if as_json:
        document = ModelList(models=models).model_dump(mode="json")
        write_line(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _write_table([_cells(model) for model in models])
    return FAILED if failed else WELL


def _cells(model: ModelDescription) -> tuple[str, ...]:
    """Give a model's row; what is not known of it is empty."""
    parameters = "" if model.parameters is None else f"{model.parameters / 1e6:.1f} M"
    score = _score(model.metrics or {})
    return (
        f"{model.name}{' (default)' if model.default else ''}",
        parameters,
        "" if score is None else f"{100 * score:.1f}",
        "" if model.calibrated is None else "yes" if model.calibrated else "no",
        "cannot be used" if model.problem else "",
    )


def _score(metrics: dict[str, Any]) -> float | None:
    """Find the score that the README's table has; a bundle of one's own may have none."""
    sets = metrics.get("sets")
    found = sets.get(_SET) if isinstance(sets, dict) else None
    score = found.get(_METRIC) if isinstance(found, dict) else None
    return score if isinstance(score, float | int) else None


def _write_table(rows: list[tuple[str, ...]]) -> None:
    """Write a table for people at a terminal, and columns between tabs into a pipe."""
    if not sys.stdout.isatty():
        for row in (_HEADS, *rows):
            write_line("\t".join(row))
        return
    table = Table(*_HEADS, caption=f"{_METRIC} x 100 on {_SET}; higher is better")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
