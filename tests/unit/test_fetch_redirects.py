"""Redirects, and names that change their address: each hop is checked, and what was checked is what
is connected to."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpcore
import pytest

from app.core.errors import UrlRefusedError, UrlUnreachableError
from tests.unit.hostile_server import Names, fetcher_for, ok, redirect, saying, serving

# -- redirects ----


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://127.0.0.2:{port}/", "cannot be used"),
        ("http://169.254.169.254:{port}/latest", "cannot be used"),
        ("http://[::1]:{port}/", "cannot be used"),
        ("//0x7f000002:{port}/", "cannot be used"),
        ("http://localhost.invalid:{port}/", "cannot be used"),
        ("http://127.0.0.1:1/", "Port 1 is not"),
        ("http://user:word@127.0.0.1:{port}/", "never sent"),
        ("file:///etc/passwd", "Only http and https"),
        ("gopher://127.0.0.1:{port}/", "Only http and https"),
        ("http://[::1/", "cannot be read"),
        ("http://\x7f/", "cannot be read"),
        ("/again", "more than 3 times"),
        ("/" + "a" * 5000, "at most 4096"),
    ],
)
def test_redirect_is_checked_as_the_first_url_was(location: str, said: str) -> None:
    async def scenario() -> tuple[str, int]:
        async def answer(_path: str) -> AsyncIterator[bytes]:
            yield redirect(location.replace("{port}", str(server.port)))

        async with serving(answer) as server:
            with pytest.raises(UrlRefusedError) as caught:
                await fetcher_for(server.port).fetch(f"http://127.0.0.1:{server.port}/")
            return str(caught.value), len(server.heads)

    text, asked = asyncio.run(scenario())
    assert said in text
    assert asked == (4 if location == "/again" else 1)


def test_redirects_three_are_followed_without_cookies_or_referrer() -> None:
    async def answer(path: str) -> AsyncIterator[bytes]:
        hops = int(path.partition("/")[2] or 0)
        if hops == 3:
            yield ok(b"picture")
        else:
            moved = f"Location: /{hops + 1}"
            yield ok(b"moved", moved, "Set-Cookie: a=b", status="307 Temporary Redirect")

    async def scenario() -> list[str]:
        async with serving(answer) as server:
            fetcher = fetcher_for(server.port)
            assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/") == b"picture"
            return server.heads

    heads = asyncio.run(scenario())
    assert len(heads) == 4
    assert not any("cookie" in head.lower() or "referer" in head.lower() for head in heads)


def test_redirect_to_a_host_that_is_not_allowed_is_refused() -> None:
    async def scenario() -> None:
        async with serving(saying(redirect("http://other.test/"))) as server:
            names = Names(pictures_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
            fetcher = fetcher_for(server.port, 80, allowed_hosts=("pictures.test",), resolve=names)
            with pytest.raises(UrlRefusedError, match="not among those"):
                await fetcher.fetch(f"http://pictures.test:{server.port}/")
            assert names.asked == ["pictures.test"]

    asyncio.run(scenario())


# -- rebinding ----


def forbid_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a second resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)


def test_name_that_changes_its_address_is_connected_to_at_the_one_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with (
            serving(saying(ok(b"checked")), host="127.0.0.2") as checked,
            serving(saying(ok(b"inside")), port=checked.port) as inside,
        ):
            names = Names(rebinding_test=[["127.0.0.2"], ["127.0.0.1"]])
            forbid_lookups(monkeypatch)
            fetcher = fetcher_for(checked.port, networks=["127.0.0.2/32"], resolve=names)
            assert await fetcher.fetch(f"http://rebinding.test:{checked.port}/") == b"checked"
            assert names.asked == ["rebinding.test"]
            assert f"Host: rebinding.test:{checked.port}" in checked.heads[0]
            with pytest.raises(UrlRefusedError):  # and the next time its new one is checked
                await fetcher.fetch(f"http://rebinding.test:{checked.port}/")
            assert inside.heads == []

    asyncio.run(scenario())


def test_name_that_changes_its_address_between_redirects_is_checked_again() -> None:
    async def scenario() -> None:
        async with (
            serving(saying(redirect("/again")), host="127.0.0.2") as checked,
            serving(saying(ok(b"inside")), port=checked.port) as inside,
        ):
            names = Names(rebinding_test=[["127.0.0.2"], ["127.0.0.1"]])
            fetcher = fetcher_for(checked.port, networks=["127.0.0.2/32"], resolve=names)
            with pytest.raises(UrlRefusedError, match="cannot be used"):
                await fetcher.fetch(f"http://rebinding.test:{checked.port}/")
            assert names.asked == ["rebinding.test"] * 2
            assert inside.heads == []

    asyncio.run(scenario())


def test_public_name_is_resolved_once_and_its_addresses_alone_are_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected: list[tuple[str, int]] = []

    async def refuse(_self: object, host: str, port: int, *_: object, **__: object) -> None:
        connected.append((host, port))
        raise httpcore.ConnectError("refused")

    names = Names(public_test=[["2606:4700::1111", "1.1.1.1"], ["127.0.0.1"]])
    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", refuse)
    with pytest.raises(UrlUnreachableError):
        asyncio.run(fetcher_for(443, networks=(), resolve=names).fetch("https://public.test/"))
    assert names.asked == ["public.test"]
    assert connected == [("2606:4700::1111", 443), ("1.1.1.1", 443)]


def test_address_that_does_not_answer_leaves_the_next_checked_one() -> None:
    async def scenario() -> None:
        async with serving(saying(ok(b"picture"))) as server:
            names = Names(two_test=[["127.0.0.3", "127.0.0.1"]])
            fetcher = fetcher_for(server.port, networks=["127.0.0.0/8"], resolve=names)
            assert await fetcher.fetch(f"http://two.test:{server.port}/") == b"picture"

    asyncio.run(scenario())
