"""The sockets of the service: bound at once, or a sentence that names the setting."""

import asyncio
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.addresses import TrustedProxies
from app.core.errors import SettingsError
from app.core.metrics import Metrics
from app.core.settings import Settings
from app.server.connections import Connections
from app.server.listener import Acceptor, check_weights, open_sockets, raise_descriptor_limit


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "2001:db8::1", "no.such.host.invalid", "a b", "x" * 300, "\udcff"]
)
def test_socket_on_what_is_no_address_of_this_machine_names_the_host(host: str) -> None:
    with pytest.raises(SettingsError, match=r"^GLIMPSE_HOST=.* cannot work: it is no address"):
        open_sockets(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_sockets_of_a_host_have_one_port_and_do_not_listen_yet(host: str) -> None:
    sockets = open_sockets(host, 0)
    try:
        (port,) = {sock.getsockname()[1] for sock in sockets}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
    finally:
        for sock in sockets:
            sock.close()


def test_socket_on_a_port_in_use_names_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^GLIMPSE_PORT={port} cannot work: another"):
            open_sockets("127.0.0.1", port)


def test_socket_on_a_port_that_this_user_may_not_take_names_the_port(repository: Path) -> None:
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first.exists() or int(first.read_text()) == 0:
        pytest.skip("needs a system that keeps some ports for root")
    code = (
        "import os\n"
        "from app.server.listener import open_sockets\n"
        "'localhost'.encode('idna')\n"  # imported while this may still be read
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "open_sockets('127.0.0.1', 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False
    )
    assert "GLIMPSE_PORT=1 cannot work: this user may not listen on it." in done.stderr


def test_weights_folder_that_is_none_is_named_unless_no_weights_are_needed(tmp_path: Path) -> None:
    none = tmp_path / "none"
    with pytest.raises(SettingsError, match=r"GLIMPSE_WEIGHTS_FOLDER=.*: there is no such folder"):
        check_weights(Settings(weights_folder=none))
    check_weights(Settings(weights_folder=none, captioner="fake"))
    check_weights(Settings(weights_folder=tmp_path))


def test_descriptor_limit_leaves_room_for_what_is_no_connection() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert raise_descriptor_limit(8) == 8
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= limits[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_acceptor_goes_on_after_a_connection_that_it_could_not_take() -> None:
    made = 0

    def make_protocol(_is_for_probes: bool) -> asyncio.Protocol:
        nonlocal made
        made += 1
        if made == 1:
            raise ValueError("this one cannot be taken")
        return _Greeting()

    async def scenario() -> None:
        (sock,) = open_sockets("127.0.0.1", 0)
        table = Connections(max_connections=9, max_per_client=0, proxies=TrustedProxies([]))
        acceptor = Acceptor(sock, make_protocol, table, Metrics())
        acceptor.start()
        for expected in (b"", b"hello"):
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            assert await asyncio.wait_for(reader.read(), 10) == expected
            writer.close()
        acceptor.close()
        await acceptor.wait_closed()
        sock.close()

    asyncio.run(scenario())
    assert made == 2


class _Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()
