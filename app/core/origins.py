"""Origins and names of hosts, as requests and settings write them. Knows no HTTP server."""

import ipaddress
import re
from dataclasses import dataclass

__all__ = [
    "DEFAULT_PORTS",
    "Origin",
    "is_loopback",
    "parse_host",
    "parse_origin",
]

DEFAULT_PORTS = {"http": 80, "https": 443}
"""The port of each scheme whose pages may ask."""

_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_](?:[a-z0-9._-]{0,252}))(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a page is from: `https://example.org:8443`; its port is stated or the scheme's own."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def parse_host(text: str) -> tuple[str, int | None] | None:
    """Split what a Host header says into name and port, in small letters; None if it is no host.

    An IPv6 address keeps its brackets; a final dot goes.
    """
    found = _HOST.fullmatch(text.strip().lower())
    if not found:
        return None
    port = int(found[2]) if found[2] else None
    if port is not None and port > 65_535:
        return None
    return found[1].rstrip("."), port


def parse_origin(text: str) -> Origin | None:
    """Read an Origin header; None for `null` and for whatever is no origin of http or https."""
    scheme, separator, rest = text.strip().lower().partition("://")
    host = parse_host(rest) if separator else None
    if host is None or scheme not in DEFAULT_PORTS:
        return None
    return Origin(scheme, host[0], host[1] or DEFAULT_PORTS[scheme])


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on, or a Host header's name, can only be this machine."""
    name = host.strip().lower().strip("[]")
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
