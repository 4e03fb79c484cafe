"""The settings of connections and of arriving uploads: each one field, bounded and described.

`app.core.settings` has the others, and reads them all from the environment.
"""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from app.core.addresses import split_addresses

__all__ = ["OWN_PATHS", "SocketSettings"]

OWN_PATHS = frozenset(
    {
        "attention",
        "caption",
        "docs",
        "healthz",
        "jobs",
        "metrics",
        "models",
        "openapi.json",
        "problems",
        "readyz",
        "static",
    }
)
"""The first parts of the service's own addresses, which no `root_path` may begin with."""


class SocketSettings(BaseSettings):
    """Who may connect, for how long, and how much they may send."""

    root_path: Annotated[
        str,
        Field(
            pattern=r"^(/[A-Za-z0-9._~-]+)*$",
            max_length=200,
            description="The path under which a proxy shows the service, such as `/captioner`. The "
            "proxy may strip it from requests or pass it on.",
        ),
    ] = ""
    trusted_proxies: Annotated[
        str,
        Field(
            description="Addresses and networks of proxies, with commas between them: their "
            "`X-Forwarded-For`, `-Proto` and `-Host` are believed. `*` is every address.",
        ),
    ] = "127.0.0.1,::1"
    max_connections: Annotated[
        int,
        Field(
            ge=8,
            le=100_000,
            description="Connections at a time, at most as the limit of open files allows. Beyond, "
            "the one that has been idle longest is closed for the new one; where none is idle, "
            "the new one is answered 503, unless it asks for `/healthz`, `/readyz` or `/metrics`.",
        ),
    ] = 1024
    max_connections_per_client: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="Connections at a time of one client address (an IPv6 network of 64 bits "
            "is one), unless it is a trusted proxy; 0 for no limit.",
        ),
    ] = 0
    head_timeout_seconds: Annotated[
        float,
        Field(
            gt=0.0,
            le=600.0,
            description="Longest time from a connection, or from a request's first byte, until the "
            "request's head is whole.",
        ),
    ] = 10.0
    keep_alive_timeout_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=3600,
            description="How long a connection is kept for the client's next request. Behind a "
            "proxy that keeps connections itself, longer than the proxy does.",
        ),
    ] = 5
    write_timeout_seconds: Annotated[
        float,
        Field(
            gt=0.0,
            le=3600.0,
            description="How long a client may take nothing in of its answer.",
        ),
    ] = 30.0
    max_upload_bytes: Annotated[
        int,
        Field(
            ge=1024,
            le=1_000_000_000,
            description="Largest picture, and largest form with one; in JSON, a third more for its "
            "base64.",
        ),
    ] = 20_000_000
    max_batch_images: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="Most pictures in a `POST /caption/batch`; beyond, it is answered 413.",
        ),
    ] = 32
    max_batch_bytes: Annotated[
        int,
        Field(
            ge=1024,
            le=10_000_000_000,
            description="Largest body of a `POST /caption/batch`, and at most half of "
            "`max_upload_memory_bytes`; each picture in it may be as large as `max_upload_bytes`.",
        ),
    ] = 100_000_000
    max_uploads: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Uploads that may arrive at a time; beyond, requests are answered 503. At "
            "most half as many requests wait for loads of models.",
        ),
    ] = 64
    max_uploads_per_client: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Uploads that may arrive at a time from one client address (an IPv6 "
            "network of 64 bits is one); 0 for half of `max_uploads`.",
        ),
    ] = 0
    max_upload_memory_bytes: Annotated[
        int,
        Field(
            ge=1024,
            le=1_000_000_000_000,
            description="Memory that uploads may take, from their first byte to their answer; "
            "beyond, requests are answered 503.",
        ),
    ] = 500_000_000
    body_idle_timeout_seconds: Annotated[
        float,
        Field(
            gt=0.0, le=600.0, description="Longest pause of a client in the middle of its upload."
        ),
    ] = 10.0
    body_timeout_seconds: Annotated[
        float, Field(gt=0.0, le=3600.0, description="Longest time for a whole upload to arrive.")
    ] = 120.0
    min_upload_bytes_per_second: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000_000,
            description="Least bytes a second at which an upload must arrive, on average from its "
            "beginning and judged after `body_idle_timeout_seconds`; 0 for no limit.",
        ),
    ] = 1000

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, value: str) -> str:
        first = value.strip("/").partition("/")[0]
        if first in OWN_PATHS:
            raise ValueError(f"the service itself answers at /{first}; choose another path")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_trusted_proxies(cls, value: str) -> str:
        split_addresses(value)
        return value
