"""Which addresses pictures are fetched from: only public ones, however they are written."""

import asyncio
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import TooManyFetchesError, UrlRefusedError
from app.fetch.policy import HIDDEN, FetchPolicy
from app.fetch.resolver import Resolver
from tests.unit.hostile_server import Names, fetcher_for

FORBIDDEN = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255"),
    *("127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.169.254", "169.254.170.2"),
    *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1"),
    *("192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("100.100.100.200", "168.63.129.16"),  # metadata, the last at an address that looks public
    *("::", "::1", "::7f00:1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8"),
    *("64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254"),
    *("64:ff9b::168.63.129.16", "64:ff9b:1::8.8.8.8", "100::1"),
    *("2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:db8::1"),
    *("2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1"),
    *("fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fe80::a9fe:a9fe", "fec0::1"),
    *("ff02::1", "ff0e::1", "4000::1", "fe80::1%2", "2606:4700::1%1", "", "example.org"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.1", "172.32.0.1"),
    *("2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "64:ff9b::8.8.8.8"),
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_address_that_is_not_public_is_forbidden_alone_and_among_others(address: str) -> None:
    policy = FetchPolicy()
    assert policy.find_forbidden([address]) == address
    assert policy.find_forbidden(["8.8.8.8", address]) == address


@pytest.mark.parametrize("address", PUBLIC)
def test_address_that_is_public_is_allowed(address: str) -> None:
    assert FetchPolicy().find_forbidden([address]) is None


@given(st.ip_addresses().filter(lambda address: not address.is_global))
def test_address_that_python_calls_non_global_is_forbidden(
    address: IPv4Address | IPv6Address,
) -> None:
    assert FetchPolicy().find_forbidden([str(address)]) is not None


@st.composite
def private_ipv4(draw: st.DrawFn) -> IPv4Address:
    networks = ["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]
    address = draw(st.ip_addresses(network=draw(st.sampled_from(networks))))
    assert isinstance(address, IPv4Address)
    return address


def ipv4_spellings(address: IPv4Address) -> list[str]:
    """Every way in which the system reads an IPv4 address."""
    number = int(address)
    a, b, c, d = address.packed
    return [
        f"{a}.{b}.{c}.{d}",
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"0x{a:x}.0{b:o}.{c}.0x{d:X}",
        f"0{a:o}.{b}.{c}.{d}",
    ]


def ipv6_spellings(address: IPv4Address) -> list[str]:
    """IPv6 addresses in which an IPv4 address is hidden."""
    number = int(address)
    hidden = [
        IPv6Address(number),  # compatible
        IPv6Address((0xFFFF << 32) | number),  # mapped
        IPv6Address((0x64FF9B << 96) | number),  # NAT64
        IPv6Address((0x64FF9B0001 << 80) | number),  # local NAT64
        IPv6Address((0x2002 << 112) | (number << 80)),  # 6to4
        IPv6Address((0x20010000 << 96) | (number << 64)),  # Teredo's server
        IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)),  # Teredo's client
    ]
    texts = [text for each in hidden for text in (each.compressed, each.exploded)]
    return [f"[{text}]" for text in [*texts, f"::ffff:{address}", f"64:ff9b::{address}"]]


@settings(max_examples=30)
@given(private_ipv4(), st.sampled_from(["http", "https"]))
def test_url_of_a_private_address_in_any_spelling_is_refused_unasked(
    address: IPv4Address, scheme: str
) -> None:
    async def scenario() -> None:
        fetcher = fetcher_for(80, 443, networks=())
        for host in ipv4_spellings(address) + ipv6_spellings(address):
            with pytest.raises(UrlRefusedError):
                await fetcher.fetch(f"{scheme}://{host}/photo.jpg")

    asyncio.run(scenario())


def test_hosts_that_are_unknown_and_forbidden_are_told_alike() -> None:
    async def scenario() -> set[str]:
        names = Names(
            inside_test=[["10.0.0.1"]],
            metadata_test=[["169.254.169.254"]],
            mixed_test=[["8.8.8.8", "10.0.0.1"]],
            empty_test=[[]],
        )
        fetcher = fetcher_for(80, networks=(), resolve=names)
        said = set()
        for host in ("inside", "metadata", "mixed", "empty", "unknown"):
            with pytest.raises(UrlRefusedError) as caught:
                await fetcher.fetch(f"http://{host}.test/")
            said.add(str(caught.value))
        return said

    assert asyncio.run(scenario()) == {HIDDEN}


def test_private_network_opens_itself_alone_and_never_metadata() -> None:
    networks = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"), ip_network("169.254.0.0/16"))
    policy = FetchPolicy(private_networks=networks)
    for address in ("10.1.2.3", "fd00::1", "8.8.8.8"):
        assert policy.find_forbidden([address]) is None
    for address in (
        "10.2.0.1",
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "169.254.170.23",
        "fd00:ec2::23",
    ):
        assert policy.find_forbidden([address]) == address
    everything = FetchPolicy(private_networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))
    assert everything.find_forbidden(["127.0.0.1", "::1"]) is None
    for address in ("0.0.0.0", "224.0.0.1", "169.254.169.254", "168.63.129.16", "::", "ff02::1"):
        assert everything.find_forbidden([address]) == address


@pytest.mark.parametrize(
    ("host", "address"),
    [("2130706433", "127.0.0.1"), ("0x7f.1", "127.0.0.1"), ("[::1]", "::1"), ("::1", "::1")],
)
def test_resolver_reads_numbers_as_the_system_does(host: str, address: str) -> None:
    found = asyncio.run(Resolver(1)(host.strip("[]"), 80))
    assert [ip_address(text) for text in found] == [ip_address(address)]


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "a\0b", "no-such-name.invalid"])
def test_resolver_of_an_impossible_name_finds_nothing(host: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 each system words it in its own way
        asyncio.run(Resolver(1)(host, 80))


def test_resolver_that_hangs_holds_up_neither_its_caller_nor_more_than_its_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        begun, let_go = asyncio.Event(), threading.Event()

        def hang(*_: object, **__: object) -> list[object]:
            loop.call_soon_threadsafe(begun.set)
            let_go.wait(20)
            return []

        monkeypatch.setattr("socket.getaddrinfo", hang)
        resolver = Resolver(1)
        asking = asyncio.create_task(resolver("slow.test", 80))
        await begun.wait()
        asking.cancel()  # as a deadline does
        await asyncio.gather(asking, return_exceptions=True)
        with pytest.raises(TooManyFetchesError):
            await resolver("other.test", 80)
        let_go.set()
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await resolver("third.test", 80) == []
                except TooManyFetchesError:
                    await asyncio.sleep(0.005)
                else:
                    break

    asyncio.run(scenario())
