"""Origins, hosts and clients: read as browsers write them; whatever else is none."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.addresses import client_key
from app.core.errors import SettingsError
from app.core.origins import Origin, is_loopback, parse_host, parse_origin
from app.core.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://example.org", Origin("https", "example.org", 443)),
        ("HTTP://Example.org:8000", Origin("http", "example.org", 8000)),
        ("http://[::1]:8000", Origin("http", "[::1]", 8000)),
        ("https://example.org:443", Origin("https", "example.org", 443)),
        ("null", None),
        ("", None),
        ("example.org", None),
        ("file://", None),
        ("ftp://example.org", None),
        ("https://example.org/path", None),
        ("https://user@example.org", None),
        ("https://example.org:99999", None),
        ("https://a b", None),
    ],
)
def test_parse_origin(text: str, origin: Origin | None) -> None:
    assert parse_origin(text) == origin
    assert origin is None or parse_origin(str(origin)) == origin


@given(text=st.text(max_size=80))
def test_parse_host_and_origin_of_any_text_raise_nothing(text: str) -> None:
    parse_host(text)
    parse_origin(text)
    is_loopback(text)
    client_key(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("example.org", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("2130706433", False),
    ],
)
def test_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_client_key_is_an_ipv4_address_or_a_64_of_ipv6() -> None:
    assert client_key("192.0.2.7") == client_key("::ffff:192.0.2.7") == "192.0.2.7"
    assert client_key("2001:db8:1:2::3") == client_key("2001:db8:1:2:ffff::9")
    assert client_key("2001:db8:1:2::3") != client_key("2001:db8:1:3::3")
    assert client_key("testclient") == "testclient"


# -- the settings made of them ----


@pytest.mark.parametrize("text", ["example.org", "https://example.org/x", "null", "https://a, b"])
def test_settings_origin_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^GLIMPSE_CORS_ORIGINS=.* is no origin; write"):
        load_settings(cors_origins=text)


@pytest.mark.parametrize("text", ["https://example.org", "example.org:80", "a b"])
def test_settings_host_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^GLIMPSE_ALLOWED_HOSTS=.* is no name of a host; write"
    ):
        load_settings(allowed_hosts=text)


def test_settings_host_names_are_this_machines_alone_on_loopback() -> None:
    assert Settings(allowed_hosts="", host="127.0.0.1").host_names == frozenset()
    assert Settings(allowed_hosts="", host="0.0.0.0").host_names is None
    assert Settings(allowed_hosts="A.org, b.org.").host_names == frozenset({"a.org", "b.org"})
    assert Settings(allowed_hosts="a.org,*").host_names is None


def test_settings_nobody_listens_openly_by_accident(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        Settings(host=host).check_who_may_ask()
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(SettingsError, match=r"GLIMPSE_KEYS_FILE.*GLIMPSE_ALLOW_ANYONE=true"):
            Settings(host=host).check_who_may_ask()
        Settings(host=host, allow_anyone=True).check_who_may_ask()
        Settings(host=host, keys_file=tmp_path).check_who_may_ask()
