"""The service's settings: each one field, bounded and described.

Each is read from a `GLIMPSE_...` environment variable.

Nothing is read at import: the command line builds one `Settings` and hands it down.
`settings_table` writes `docs/settings.md`.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.errors import SettingsError

__all__ = [
    "DEFAULT_MODEL",
    "FORMATS",
    "Settings",
    "load_settings",
    "settings_table",
    "unknown_variables",
]

DEFAULT_MODEL = "glimpse"
PREFIX = "GLIMPSE_"
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC")
"""The formats that can be accepted, by the names that people use."""
WEIGHTS_FOLDER = Path(__file__).resolve().parents[2] / "weights"


class Settings(BaseSettings):
    """How this replica runs. Every field is an environment variable: `port` is `GLIMPSE_PORT`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    host: Annotated[
        str, Field(min_length=1, description="Address to listen on; `0.0.0.0` for every network.")
    ] = "127.0.0.1"
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
    captioner: Annotated[
        Literal["real", "fake"],
        Field(
            description="`fake` needs no weights and invents its captions: for trying out a client "
            "or a deployment."
        ),
    ] = "real"
    fake_batch_seconds: Annotated[
        float, Field(ge=0.0, le=60.0, description="How long the fake captioner takes for a batch.")
    ] = 0.0
    torch_threads: Annotated[
        int,
        Field(
            ge=0,
            le=256,
            description="Threads that PyTorch computes with; 0 lets it choose (every core).",
        ),
    ] = 0
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(
            description="What the encoder computes in; `auto` takes bfloat16 where the processor "
            "is clearly faster so."
        ),
    ] = "auto"
    decode_threads: Annotated[
        int, Field(ge=1, le=64, description="Threads that decode pictures and draw overlays.")
    ] = 2
    max_upload_bytes: Annotated[
        int, Field(ge=1024, le=1_000_000_000, description="Largest request body that is accepted.")
    ] = 20_000_000
    max_uploads: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Uploads received or answered at a time; times `max_upload_bytes` is the "
            "memory they may take. At most half of them wait for loads of models; beyond, "
            "requests are answered 503.",
        ),
    ] = 64
    max_pixels: Annotated[
        int,
        Field(
            ge=65_536,
            le=500_000_000,
            description="Most pixels of a picture that are decoded, width times height.",
        ),
    ] = 50_000_000
    max_jpeg_pixels: Annotated[
        int,
        Field(
            ge=65_536,
            le=1_000_000_000,
            description="Most pixels that a JPEG of one scan may have, of which fewer are decoded: "
            "it is reduced on the way, and the pixels of its full size are never in memory. "
            "Progressive ones are bounded by `max_pixels`, as are all where that is more.",
        ),
    ] = 200_000_000
    formats: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            description="Formats that are accepted, separated by commas; each can be left out, but "
            "HEIC cannot be the only one.",
        ),
    ] = ",".join(FORMATS)
    min_side_pixels: Annotated[
        int,
        Field(ge=1, le=256, description="Fewest pixels that either side of a picture may have."),
    ] = 16
    overlay_side_pixels: Annotated[
        int,
        Field(
            ge=256,
            le=4096,
            description="Longest side of the picture that attention maps are drawn on.",
        ),
    ] = 1024
    max_batch_size: Annotated[
        int, Field(ge=1, le=1024, description="Most pictures captioned together.")
    ] = 16
    max_batch_wait_seconds: Annotated[
        float,
        Field(
            ge=0.0, le=1.0, description="How long a picture may wait for others to share its batch."
        ),
    ] = 0.01
    max_queue_size: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Pictures that may wait; beyond, requests are answered 503.",
        ),
    ] = 128
    request_timeout_seconds: Annotated[
        float,
        Field(
            gt=0.0,
            le=3600.0,
            description="Longest time from the whole upload to its answer, the wait for a model's "
            "load included.",
        ),
    ] = 30.0
    body_idle_timeout_seconds: Annotated[
        float,
        Field(
            gt=0.0, le=600.0, description="Longest pause of a client in the middle of its upload."
        ),
    ] = 10.0
    body_timeout_seconds: Annotated[
        float, Field(gt=0.0, le=3600.0, description="Longest time for a whole upload to arrive.")
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

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, value: str) -> str:
        """Spell each format as it is, in our order, whatever the letters' case."""
        known = {name.lower(): name for name in FORMATS}
        named = [name.strip() for name in value.split(",") if name.strip()]
        unknown = [name for name in named if name.lower() not in known]
        if unknown or not named:
            raise ValueError(
                f"{', '.join(unknown) or 'nothing'} is no format; formats: {', '.join(FORMATS)}"
            )
        chosen = {known[name.lower()] for name in named}
        if chosen == {"HEIC"}:
            raise ValueError("HEIC cannot be the only format: the service's own picture is none")
        return ",".join(name for name in FORMATS if name in chosen)

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


def settings_table() -> str:
    """Write every setting as a Markdown document: variable, default, bounds, meaning."""
    rows = [
        f"| `{variable_name(name)}` | {_default_text(field)} | {_bounds_text(field)} | "
        f"{field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "Each is an environment variable, read once when the service starts. A value out of "
            "its bounds stops the",
            "start with a sentence that says why; an unknown `GLIMPSE_...` variable is warned of.",
            "",
            "This page is written by `glimpse settings`; a test compares the two.",
            "",
            "| variable | default | accepted | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _nearest(name: str) -> str | None:
    """Find the variable of the setting whose name is most like this one; None if none is near."""
    matches = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return variable_name(matches[0]) if matches else None


def _explain(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return f"The settings contradict each other: {message}."
    name = str(problem["loc"][0])
    return f"{variable_name(name)}={problem['input']} cannot work: {message}."


def _default_text(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["shown"]) if isinstance(extra, dict) else f"`{field.default}`"


def _bounds_text(field: FieldInfo) -> str:
    choices = getattr(field.annotation, "__args__", None)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    above = [f"above {bound.gt:g}" for bound in field.metadata if isinstance(bound, Gt)]
    least = [f"{bound.ge:.12g}" for bound in field.metadata if isinstance(bound, Ge)]
    most = [f"{bound.le:.12g}" for bound in field.metadata if isinstance(bound, Le)]
    return " to ".join([*above, *least, *most]) if most else "text"
