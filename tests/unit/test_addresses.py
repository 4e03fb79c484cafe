"""Who a client is, and whose word about it counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.addresses import TrustedProxies, client_key, split_addresses
from app.core.errors import SettingsError
from app.core.settings import load_settings


def test_client_is_its_address_or_its_ipv6_network() -> None:
    assert client_key("192.0.2.1") == "192.0.2.1"
    assert client_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert client_key("2001:db8:1:2:3::4") == client_key("2001:db8:1:2::") == "2001:db8:1:2::/64"
    assert client_key("fe80::1%eth0") == "fe80::/64"
    assert client_key("testclient") == "testclient"


def test_proxy_is_known_by_address_network_or_not_at_all() -> None:
    proxies = TrustedProxies(["10.0.0.0/8", "2001:db8::1"])
    assert "10.1.2.3" in proxies
    assert "::ffff:10.1.2.3" in proxies
    assert "2001:db8::1" in proxies
    assert "11.0.0.1" not in proxies
    assert "localhost" not in proxies
    assert "" not in proxies
    assert "192.0.2.1" in TrustedProxies(["*"])
    assert "192.0.2.1" not in TrustedProxies([])


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),  # the first is only what the client claims
        ("203.0.113.9, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.3", "10.0.0.3"),
        ("192.0.2.1, unknown", None),
        ("", None),
        ("'; DROP", None),
    ],
)
def test_client_behind_proxies_is_the_last_that_is_none(forwarded: str, client: str | None) -> None:
    assert TrustedProxies(["10.0.0.0/8"]).client_of(forwarded) == client


@given(st.text())
def test_what_a_client_forwards_is_an_address_or_nothing(forwarded: str) -> None:
    client = TrustedProxies(["10.0.0.0/8"]).client_of(forwarded)
    assert client is None or client_key(client)


def test_setting_of_proxies_that_is_no_address_is_refused() -> None:
    assert split_addresses(" 10.0.0.1, ::1 ,, 10.0.0.0/8,*") == [
        "10.0.0.1",
        "::1",
        "10.0.0.0/8",
        "*",
    ]
    with pytest.raises(SettingsError, match="GLIMPSE_TRUSTED_PROXIES=proxy cannot work"):
        load_settings(trusted_proxies="proxy")


@pytest.mark.parametrize("path", ["captioner", "/captioner/", "/a b", "/caption", "/docs/x", "//"])
def test_setting_of_a_root_path_that_cannot_work_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match="GLIMPSE_ROOT_PATH="):
        load_settings(root_path=path)
