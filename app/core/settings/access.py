"""The settings of who may ask: where to listen, keys, rates, pages and names.

A part of `app.core.settings.Settings`, and never read alone.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from app.core.errors import SettingsError
from app.core.origins import Origin, is_loopback, parse_host, parse_origin

__all__ = ["AccessSettings"]


class AccessSettings(BaseSettings):
    """Who may ask, under which name, from which pages, and how often."""

    host: Annotated[
        str, Field(min_length=1, description="Address to listen on; `0.0.0.0` for every network.")
    ] = "127.0.0.1"
    keys_file: Annotated[
        Path | None,
        Field(
            description="File of API keys, made by `glimpse keys add NAME`. Where it is set, every "
            "request needs a key but those for the documentation, `/healthz` and `/readyz`.",
            json_schema_extra={"shown": "none: nobody needs a key"},
        ),
    ] = None
    allow_anyone: Annotated[
        bool,
        Field(
            description="Listen beyond this machine without keys: whoever reaches the address is "
            "served. Without it, and without `keys_file`, the service listens on loopback alone."
        ),
    ] = False
    metrics_open: Annotated[
        bool, Field(description="Answer `/metrics` without a key, also where keys are needed.")
    ] = False
    requests_per_minute: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Requests that each key, or each client address where no keys are needed, "
            "may send in a minute; beyond, they are answered 429. 0 is no limit. A key may have "
            "its own.",
        ),
    ] = 0
    requests_per_day: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000_000,
            description="The same in a day, which begins at midnight UTC; a restarted process "
            "counts anew.",
        ),
    ] = 0
    cors_origins: Annotated[
        str,
        Field(
            description="Origins of other sites whose pages may use this service, separated by "
            "commas, such as `https://example.org`; `*` is every site.",
            json_schema_extra={"shown": "none: this service's own pages alone"},
        ),
    ] = ""
    allowed_hosts: Annotated[
        str,
        Field(
            description="Names under which this service may be asked (the Host header, without its "
            "port), separated by commas; `*` is every name. Those of this machine, such as "
            "`localhost`, always work.",
            json_schema_extra={
                "shown": "this machine's own names when listening on loopback, else `*`"
            },
        ),
    ] = ""

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: str) -> str:
        for text in _listed(value):
            if text != "*" and parse_origin(text) is None:
                raise ValueError(f"{text!r} is no origin; write https://example.org")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: str) -> str:
        for text in _listed(value):
            host = parse_host(text)
            if text != "*" and (host is None or host[1] is not None):
                raise ValueError(
                    f"{text!r} is no name of a host; write example.org, without a port"
                )
        return value

    @property
    def foreign_origins(self) -> frozenset[Origin] | None:
        """The origins of other sites whose pages may use this service; None for every one."""
        listed = _listed(self.cors_origins)
        origins = (parse_origin(text) for text in listed)
        return None if "*" in listed else frozenset(filter(None, origins))

    @property
    def host_names(self) -> frozenset[str] | None:
        """The names under which this service may be asked; None for every one."""
        listed = _listed(self.allowed_hosts)
        if "*" in listed or (not listed and not is_loopback(self.host)):
            return None
        hosts = (parse_host(text) for text in listed)
        return frozenset(host[0] for host in hosts if host)

    def check_who_may_ask(self) -> None:
        """Raise SettingsError where strangers could use the service and nobody said they may."""
        if is_loopback(self.host) or self.keys_file or self.allow_anyone:
            return
        raise SettingsError(
            f"GLIMPSE_HOST={self.host} opens the service to other machines, and no key "
            f"is needed: set GLIMPSE_KEYS_FILE and make a key (glimpse keys add NAME), "
            f"or set GLIMPSE_ALLOW_ANYONE=true to serve whoever reaches it."
        )


def _listed(text: str) -> list[str]:
    """Split what a setting lists, separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
