"""The service's settings: each one field, bounded and described.

Each is read from a `GLIMPSE_...` environment variable.

Nothing is read at import: the command line builds one `Settings` and hands it down.
`app.core.settings.table` writes `docs/settings.md`.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import SettingsConfigDict

from app.core.errors import SettingsError
from app.core.settings.access import AccessSettings
from app.core.settings.computing import ComputeSettings
from app.core.settings.fetching import FetchSettings
from app.core.settings.images import FORMATS, ImageSettings
from app.core.settings.jobs import JobSettings
from app.core.settings.sockets import SocketSettings

__all__ = [
    "DEFAULT_MODEL",
    "FORMATS",
    "Settings",
    "load_settings",
    "unknown_variables",
    "variable_name",
]

DEFAULT_MODEL = "glimpse"
PREFIX = "GLIMPSE_"
WEIGHTS_FOLDER = Path(__file__).resolve().parents[3] / "weights"


class Settings(
    SocketSettings, AccessSettings, ImageSettings, FetchSettings, JobSettings, ComputeSettings
):
    """How this replica runs. Every field is an environment variable: `port` is `GLIMPSE_PORT`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    port: Annotated[
        int, Field(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    ] = 8000
    weights_folder: Annotated[
        Path,
        Field(
            description="Folder that holds one folder for each model.",
            json_schema_extra={"shown": "`weights/` beside the `app` folder"},
        ),
    ] = WEIGHTS_FOLDER
    model: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9-]{0,63}$",
            description="The default model, a folder of `weights_folder`: loaded at the start, and "
            "never unloaded.",
        ),
    ] = DEFAULT_MODEL
    models_memory_bytes: Annotated[
        int,
        Field(
            ge=0,
            le=100_000_000_000,
            description="Memory that loaded models may take, as float32 tensors; what they share "
            "counts once. Those other than the default one are loaded at their first use, and the "
            "least recently used is unloaded for the next; 0 serves the default model alone.",
        ),
    ] = 500_000_000
    start_timeout_seconds: Annotated[
        float,
        Field(
            gt=0.0,
            le=3600.0,
            description="How long the default model may take to be loaded and to caption its first "
            "picture, one of the service's own. Beyond, the process says so and ends.",
        ),
    ] = 120.0
    shutdown_timeout_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=600,
            description="How long requests in flight may take to end when the service is stopped.",
        ),
    ] = 20
    log_format: Annotated[
        Literal["text", "json"],
        Field(description="`text` for people, `json` for machines: one object a line."),
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="The least severe message that is logged."),
    ] = "info"

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.max_queue_size < self.max_batch_size:
            raise ValueError(
                f"max_queue_size ({self.max_queue_size}) must be at least max_batch_size "
                f"({self.max_batch_size}): a smaller queue never fills a batch"
            )
        if self.body_idle_timeout_seconds > self.body_timeout_seconds:
            raise ValueError(
                f"body_idle_timeout_seconds ({self.body_idle_timeout_seconds:g}) must not exceed "
                f"body_timeout_seconds ({self.body_timeout_seconds:g})"
            )
        if self.max_upload_bytes > self.max_upload_memory_bytes:
            raise ValueError(
                f"max_upload_bytes ({self.max_upload_bytes}) must not exceed "
                f"max_upload_memory_bytes ({self.max_upload_memory_bytes})"
            )
        return self


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; overrides that are not None win.

    Raises SettingsError with one sentence for each setting that cannot work.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem) for problem in error.errors())) from error


def unknown_variables(environment: Iterable[str]) -> dict[str, str | None]:
    """Find `GLIMPSE_...` variables that are not settings, likely misspelled.

    Gives each with the nearest setting's variable, or None.
    """
    names = {
        name: name.upper().removeprefix(PREFIX).lower()
        for name in environment
        if name.upper().startswith(PREFIX)
    }
    return {
        name: _nearest(field)
        for name, field in sorted(names.items())
        if field not in Settings.model_fields
    }


def variable_name(field_name: str) -> str:
    """Name the environment variable of a setting: port -> GLIMPSE_PORT."""
    return PREFIX + field_name.upper()


def _nearest(name: str) -> str | None:
    """Find the variable of the setting whose name is most like this one; None if none is near."""
    matches = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return variable_name(matches[0]) if matches else None


def _explain(problem: Any) -> str:
    message = _visible(str(problem["msg"]).removeprefix("Value error, "))
    if not problem["loc"]:
        return f"The settings contradict each other: {message}."
    name = str(problem["loc"][0])
    return f"{variable_name(name)}={_visible(str(problem['input']))} cannot work: {message}."


def _visible(text: str) -> str:
    """Escape what would steer a terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]
