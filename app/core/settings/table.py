"""The settings as a Markdown table: `docs/settings.md`."""

from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from app.core.settings import Settings, variable_name
from app.core.settings.access import AccessSettings
from app.core.settings.computing import ComputeSettings
from app.core.settings.fetching import FetchSettings
from app.core.settings.images import ImageSettings
from app.core.settings.jobs import JobSettings
from app.core.settings.sockets import SocketSettings

__all__ = ["settings_table"]


# In the order of the page.
_PARTS = {
    "The service": Settings,
    "Who may ask": AccessSettings,
    "Connections and uploads": SocketSettings,
    "Pictures": ImageSettings,
    "Captions": ComputeSettings,
    "Captioning by URL": FetchSettings,
    "Jobs": JobSettings,
}
_HEAD = """# Settings

Each is an environment variable, read once when the service starts. A value out of its bounds
stops the start with a sentence that says why; an unknown `GLIMPSE_...` variable is warned of.

This page is written by `glimpse settings`; a test compares the two.
"""


def settings_table() -> str:
    """Write every setting as a Markdown document: variable, default, bounds, meaning."""
    sections = [
        "\n".join(
            [
                f"## {title}",
                "",
                "| variable | default | accepted | meaning |",
                "|---|---|---|---|",
                *(_row(name) for name in Settings.model_fields if name in part.__annotations__),
            ]
        )
        for title, part in _PARTS.items()
    ]
    return "\n".join([_HEAD, "\n\n".join(sections), ""])


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    return (
        f"| `{variable_name(name)}` | {_default_text(field)} | {_bounds_text(field)} | "
        f"{field.description} |"
    )


def _default_text(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict):
        return str(extra["shown"])
    is_bool = isinstance(field.default, bool)
    return f"`{str(field.default).lower() if is_bool else field.default}`"


def _bounds_text(field: FieldInfo) -> str:
    if field.annotation is bool:
        return "`true`, `false`"
    if get_origin(field.annotation) is tuple:
        return "texts with commas between"
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    above = [f"above {bound.gt:g}" for bound in field.metadata if isinstance(bound, Gt)]
    least = [f"{bound.ge:.12g}" for bound in field.metadata if isinstance(bound, Ge)]
    most = [f"{bound.le:.12g}" for bound in field.metadata if isinstance(bound, Le)]
    return " to ".join([*above, *least, *most]) if most else "text"
