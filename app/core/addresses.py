"""Who a client is: its address, and the proxies whose word about it is taken. Knows no HTTP."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["TrustedProxies", "client_key", "split_addresses"]

_IPV6_CLIENT_BITS = 64  # what one customer is given, at least


def split_addresses(text: str) -> list[str]:
    """Split addresses and networks at commas. Raises ValueError for what is neither."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if part != "*":
            ip_network(part, strict=False)
    return parts


def client_key(host: str) -> str:
    """Name the client behind an address: all of an IPv6 network of 64 bits are one.

    What is no address is its own name.
    """
    address = _address(host)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _IPV6_CLIENT_BITS), strict=False))
    return host if address is None else str(address)


class TrustedProxies:
    """The addresses and networks of proxies; `*` is every address."""

    def __init__(self, addresses: Iterable[str]) -> None:
        parts = list(addresses)
        self._everyone = "*" in parts
        self._networks = [ip_network(part, strict=False) for part in parts if part != "*"]

    def __contains__(self, host: str) -> bool:
        """Tell whether the address is that of a proxy."""
        address = _address(host)
        return self._everyone or (
            address is not None and any(address in network for network in self._networks)
        )

    def client_of(self, forwarded_for: str) -> str | None:
        """Find the client in an `X-Forwarded-For`: the last address that is not a proxy's.

        Each proxy adds to the right, and only what proxies added is believed. None where nothing
        readable stands there.
        """
        client, _ = self._walk(forwarded_for)
        return client

    def believed(self, forwarded: str, forwarded_for: str) -> str:
        """Choose the element of another forwarded list, such as schemes, that is the client's.

        Each proxy adds to the right here too: it stands as far from the end as the client does in
        the `X-Forwarded-For`. A proxy that replaces such a list leaves fewer; then it is the first.
        """
        parts = [part.strip() for part in forwarded.split(",")]
        _, hops = self._walk(forwarded_for)
        return parts[-min(hops, len(parts))]

    def _walk(self, forwarded_for: str) -> tuple[str | None, int]:
        """Find the client, and how far from the end it stands: 1 for the last element."""
        hosts = [_without_port(part.strip()) for part in forwarded_for.split(",")]
        for hops, host in enumerate(reversed(hosts), start=1):
            if _address(host) is None:
                return None, hops
            if host not in self:
                return host, hops
        return hosts[0], len(hosts)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Read an address, an IPv4 one in its IPv6 clothes as itself; None for what is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _without_port(text: str) -> str:
    """Take the port off `1.2.3.4:80` and `[::1]:80`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
