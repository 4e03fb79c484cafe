"""Fetching over TLS: the certificate must be valid for the URL's own name, wherever the connection
goes."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.core.errors import UrlRefusedError, UrlUnreachableError
from tests.unit.hostile_server import (
    Answer,
    Hostile,
    Names,
    fetcher_for,
    ok,
    redirect,
    saying,
    serving,
)

LOOPBACK = [["127.0.0.1"]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for pictures.test that signs itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the command openssl")
    path = tmp_path_factory.mktemp("tls") / "pictures.pem"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(path)]
    names = ["-subj", "/CN=pictures.test", "-addext", "subjectAltName=DNS:pictures.test"]
    made = subprocess.run(
        [openssl, "req", "-x509", "-days", "2", *key, *names],
        capture_output=True,
        check=True,
        text=True,
    )
    path.write_text(path.read_text() + made.stdout)
    return path


def trust(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def over_tls(
    certificate: Path, answer: Answer, scenario: Callable[[Hostile], Awaitable[None]]
) -> list[str | None]:
    """Run a scenario against a server of pictures.test; give the names that it was called by."""
    called: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _tls, name, _context: called.append(name)

    async def run() -> None:
        async with serving(answer, tls=context) as server:
            await scenario(server)

    asyncio.run(run())
    return called


def test_fetch_over_tls_calls_the_host_by_its_name_at_the_checked_address(
    certificate: Path,
) -> None:
    async def scenario(server: Hostile) -> None:
        names = Names(pictures_test=LOOPBACK)
        fetcher = fetcher_for(server.port, resolve=names, tls=trust(certificate))
        assert await fetcher.fetch(f"https://pictures.test:{server.port}/a") == b"picture"
        assert f"Host: pictures.test:{server.port}" in server.heads[0]
        assert names.asked == ["pictures.test"]

    assert over_tls(certificate, saying(ok(b"picture")), scenario) == ["pictures.test"]


@pytest.mark.parametrize(("host", "trusted"), [("other.test", True), ("pictures.test", False)])
def test_fetch_over_tls_of_a_wrong_or_untrusted_certificate_sends_nothing(
    certificate: Path, host: str, trusted: bool
) -> None:
    async def scenario(server: Hostile) -> None:
        names = Names(pictures_test=LOOPBACK, other_test=LOOPBACK)
        tls = trust(certificate) if trusted else None
        fetcher = fetcher_for(server.port, resolve=names, tls=tls)
        with pytest.raises(UrlUnreachableError, match="no certificate that is valid for its name"):
            await fetcher.fetch(f"https://{host}:{server.port}/")
        assert server.heads == []

    assert over_tls(certificate, saying(ok(b"picture")), scenario) == [host]


def test_fetch_by_address_over_tls_of_a_certificate_for_a_name_sends_nothing(
    certificate: Path,
) -> None:
    async def scenario(server: Hostile) -> None:
        fetcher = fetcher_for(server.port, tls=trust(certificate))
        with pytest.raises(UrlUnreachableError, match="no certificate"):
            await fetcher.fetch(f"https://127.0.0.1:{server.port}/")
        assert server.heads == []

    over_tls(certificate, saying(ok(b"picture")), scenario)


def test_redirect_from_https_to_http_is_not_followed(certificate: Path) -> None:
    async def scenario(server: Hostile) -> None:
        names = Names(pictures_test=LOOPBACK, plain_test=LOOPBACK)
        fetcher = fetcher_for(server.port, 80, resolve=names, tls=trust(certificate))
        with pytest.raises(UrlRefusedError, match="from https to http"):
            await fetcher.fetch(f"https://pictures.test:{server.port}/")
        assert names.asked == ["pictures.test"]

    over_tls(certificate, saying(redirect("http://plain.test/")), scenario)


def test_fetch_over_tls_from_a_server_that_speaks_none_says_so(certificate: Path) -> None:
    async def scenario() -> None:
        async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.test ESMTP\r\n")
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            fetcher = fetcher_for(port, tls=trust(certificate))
            with pytest.raises(UrlUnreachableError, match="or speaks no TLS"):
                await fetcher.fetch(f"https://127.0.0.1:{port}/")

    asyncio.run(scenario())
