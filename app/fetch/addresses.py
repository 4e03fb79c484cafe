"""Which addresses belong to the public internet. Pure: resolves nothing, connects to nothing.

Python's own `is_global` differs between its versions, so the special-purpose registries of IANA are
written out here, and both must agree. For IPv6 the rule is turned round: only global unicast
(2000::/3) can be public, so whatever embeds an IPv4 address outside it (mapped, compatible,
local NAT64) is refused unread.
"""

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

__all__ = ["Address", "Network", "is_never_allowed", "is_public", "read_address"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")

_SPECIAL = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared, behind a provider's NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments, and the metadata of one cloud
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds an IPv4 address
        "3fff::/20",
    )
)

# What no setting opens: nobody serves pictures there, and much is lost where it answers.
_NEVER = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/32",
        "168.63.129.16/32",  # metadata of a cloud, at an address that looks public
        "169.254.0.0/16",  # link-local: metadata, and credentials of containers
        "100.100.100.200/32",  # metadata
        "192.0.0.192/32",  # metadata
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "fd00:ec2::/32",  # metadata, and credentials of containers
        "fd20:ce::254/128",  # metadata
        "fe80::a9fe:a9fe/128",  # metadata
        "ff00::/8",
    )
)


def read_address(text: str) -> Address | None:
    """Read an address as a resolver writes it; None where it has a zone or is none."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def is_never_allowed(address: Address) -> bool:
    """Tell whether this is one of the addresses that no setting opens."""
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped
        if address in _NAT64:
            embedded = IPv4Address(int(address) & 0xFFFF_FFFF)
        if embedded is not None and is_never_allowed(embedded):
            return True
    return any(address in network for network in _NEVER)


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public internet, and of no cloud's metadata."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _GLOBAL_UNICAST:
            return False
    if is_never_allowed(address) or any(address in network for network in _SPECIAL):
        return False
    return address.is_global
