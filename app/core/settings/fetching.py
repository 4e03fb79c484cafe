"""The settings of captioning by URL: from where pictures are fetched, and how many.

A part of `app.core.settings.Settings`, and never read alone.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, IPvAnyNetwork
from pydantic_settings import BaseSettings, NoDecode

__all__ = ["FetchSettings"]


def _split(value: Any) -> Any:
    """Read a list as a person writes it into a variable: with commas between."""
    if not isinstance(value, str):
        return value
    return [part for each in value.split(",") if (part := each.strip().lower())]


class FetchSettings(BaseSettings):
    """From where pictures are fetched, how long, and how many at a time."""

    fetch_urls: Annotated[
        bool,
        Field(
            description="Whether pictures may be sent by their URL, which this service then "
            "fetches. Only from public addresses, unless the settings below say otherwise."
        ),
    ] = False
    fetch_timeout_seconds: Annotated[
        float,
        Field(
            gt=0.0,
            le=300.0,
            description="Longest time to fetch a picture by its URL, redirects and all. A silence "
            "of 5 seconds ends it earlier.",
        ),
    ] = 10.0
    max_fetches: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="Pictures fetched at a time; times twice `max_upload_bytes`, which bounds "
            "each, is the memory that they may take while they come. Fetched, they count among "
            "the uploads. Beyond, requests are answered 503.",
        ),
    ] = 8
    fetch_allowed_hosts: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9_][a-z0-9._:-]*$")], ...],
        NoDecode,
        BeforeValidator(_split),
        Field(
            description="Hosts that pictures may be fetched from, redirects included; "
            "`*.example.org` for every host below one. Names outside ASCII in their `xn--` form.",
            json_schema_extra={"shown": "every public host"},
        ),
    ] = ()
    fetch_ports: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65535)], ...],
        NoDecode,
        BeforeValidator(_split),
        Field(
            min_length=1,
            description="Ports that pictures may be fetched from.",
            json_schema_extra={"shown": "`80,443`"},
        ),
    ] = (80, 443)
    fetch_private_networks: Annotated[
        tuple[IPvAnyNetwork, ...],
        NoDecode,
        BeforeValidator(_split),
        Field(
            description="Networks such as `10.1.2.0/24` that are not public and may be fetched "
            "from all the same: everyone who may ask for captions can then ask for pictures there.",
            json_schema_extra={"shown": "none"},
        ),
    ] = ()
