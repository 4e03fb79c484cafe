"""Which URLs may be fetched: rules over what a URL says and over what its host resolves to. Pure:
resolves nothing, connects to nothing."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from app.core.errors import UrlRefusedError
from app.fetch.addresses import Network, is_never_allowed, is_public, read_address

__all__ = ["HIDDEN", "FetchPolicy"]

HIDDEN = (
    "The host of the URL cannot be used: it is unknown, or not on the public internet. Send the "
    "URL of a public web server, or the picture itself."
)
"""What is said of a host that is unknown and of one that is forbidden, whatever it is: the two must
look alike, or the answers would draw a map of the operator's network."""

_MAX_URL_CHARACTERS = 4096
# What a name server and a certificate can speak of, or the inside of an IPv6 address's brackets.
_HOST = re.compile(
    r"(?=.{1,254}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?|[0-9a-f.:]*:[0-9a-f.:]*"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_EXAMPLE = 'For example: {"url": "https://example.org/photo.jpg"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """What may be fetched.

    ports: those that may be connected to.
    allowed_hosts: names, or `*.example.org` for all names below one; empty for every host.
    private_networks: networks that are not public and may be connected to all the same.
    """

    ports: frozenset[int] = frozenset({80, 443})
    allowed_hosts: tuple[str, ...] = ()
    private_networks: tuple[Network, ...] = ()

    def read(self, text: str) -> httpx.URL:
        """Parse a URL and check all that it says by itself. Raises UrlRefusedError."""
        if len(text) > _MAX_URL_CHARACTERS:
            raise UrlRefusedError(
                f"The URL has {len(text)} characters; at most {_MAX_URL_CHARACTERS} are accepted."
            )
        try:
            url = httpx.URL(text.strip())
        except (httpx.InvalidURL, ValueError) as error:
            raise UrlRefusedError(f"The URL cannot be read. {_EXAMPLE}") from error
        self.check(url)
        return url

    def check(self, url: httpx.URL) -> None:
        """Check all that a URL says by itself. Raises UrlRefusedError."""
        if url.scheme not in _DEFAULT_PORTS or not url.host:
            raise UrlRefusedError(
                f"Only http and https URLs with a host are fetched, and this is none. {_EXAMPLE}"
            )
        if url.userinfo:
            raise UrlRefusedError(
                "The URL has a user name or a password, which are never sent. Leave them out."
            )
        port = self.port(url)
        if port not in self.ports:
            accepted = ", ".join(map(str, sorted(self.ports)))
            raise UrlRefusedError(f"Port {port} is not fetched from; those that are: {accepted}.")
        host = url.raw_host.decode("ascii").lower()
        if not _HOST.fullmatch(host):
            raise UrlRefusedError(HIDDEN)
        if not self._names(host.removesuffix(".")):
            raise UrlRefusedError(
                "The host of the URL is not among those that this service fetches from. Send the "
                "picture itself."
            )

    def port(self, url: httpx.URL) -> int:
        """Give the port that a checked URL stands for."""
        return _DEFAULT_PORTS[url.scheme] if url.port is None else url.port

    def find_forbidden(self, addresses: Iterable[str]) -> str | None:
        """Find an address that may not be connected to; None if every one may."""
        return next((text for text in addresses if not self._allows(text)), None)

    def _allows(self, text: str) -> bool:
        address = read_address(text)
        if address is None or is_never_allowed(address):
            return False
        return is_public(address) or any(address in network for network in self.private_networks)

    def _names(self, name: str) -> bool:
        """Tell whether the list of hosts has this one."""
        return not self.allowed_hosts or any(
            name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
            for pattern in self.allowed_hosts
        )
