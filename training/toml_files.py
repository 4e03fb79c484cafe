"""Experiments as TOML files: read, completed from others, and checked. Knows no experiment."""

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from models.errors import ConfigError

__all__ = ["read_experiment"]

ExperimentT = TypeVar("ExperimentT", bound=BaseModel)

_TABLES = ("architecture", "decoding", "training", "vocabulary")


def read_experiment(
    path: Path, kind: type[ExperimentT], *, own: Collection[str] = ("name",)
) -> ExperimentT:
    """Read the TOML of one experiment of that kind.

    own: what it never takes from the file that it is `like`. Raises ConfigError with the field at
    fault.
    """
    try:
        return kind.model_validate(_read_table(path, own))
    except OSError as error:
        raise ConfigError(f"The experiment {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text, as TOML must be.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}.") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_fault(error)}.") from error


def _first_fault(error: ValidationError) -> str:
    """Say where and what the first fault is, and how many others there are."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if place[:1] == ["stages"] and len(place) > 2:
        del place[2]  # the kind of stage, which pydantic puts between its number and its key
    if place[:1] == ["architecture"] and len(place) > 2:
        del place[1]  # the same of an architecture
    said = first["msg"].removeprefix("Value error, ")
    others = error.error_count() - 1
    more = f" (and {others} more)" if others else ""
    return ": ".join([*filter(None, [".".join(place)]), said]) + more


def _read_table(path: Path, own: Collection[str]) -> dict[str, Any]:
    """Read a TOML file, completed from the file beside it that it is `like`, if it names one.

    The tables of a model and its training are completed key by key, but for an architecture of
    another kind; everything else is taken as a whole.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    model = table.pop("like", None)
    if model is None:
        return table
    if not isinstance(model, str) or Path(model).name != model or model == path.name:
        raise ConfigError(f"{path}: like: must be the name of another file beside it.")
    common = _read_table(path.with_name(model), own)
    for key in _TABLES:
        both = isinstance(common.get(key), dict) and isinstance(table.get(key), dict)
        if both and table[key].get("kind", common[key].get("kind")) == common[key].get("kind"):
            table[key] = common[key] | table[key]
    return {key: value for key, value in common.items() if key not in own} | table
