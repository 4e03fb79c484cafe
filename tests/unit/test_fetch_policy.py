"""Which URLs are fetched, by what they say alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import UrlRefusedError
from app.fetch.policy import FetchPolicy

REFUSED = {
    "file:///etc/passwd": "Only http and https",
    "gopher://example.org/": "Only http and https",
    "ftp://example.org/a.jpg": "Only http and https",
    "data:image/png;base64,AAAA": "Only http and https",
    "//example.org/a.jpg": "Only http and https",
    "http:example.org": "Only http and https",
    "http:///a.jpg": "Only http and https",
    "photo.jpg": "Only http and https",
    "": "Only http and https",
    "http://user@example.org/": "never sent",
    "http://user:word@example.org/": "never sent",
    "http://example.org@10.0.0.1/": "never sent",
    "http://example.org\\@10.0.0.1/": "never sent",
    "http://example.org:8080/": "those that are: 80, 443",
    "http://example.org:22/": "Port 22",
    "http://example.org:0/": "Port 0",
    "http://example.org:99999/": "Port 99999",
    "http://example.org:80a/": "cannot be read",
    "http://[::1/": "cannot be read",
    "http://example.org/\ud800": "cannot be read",
    "https://.example.org/": "cannot be used",
    "https://example..org/": "cannot be used",
    "https://" + "a" * 64 + ".org/": "cannot be used",
    "https://" + "a." * 127 + "org/": "cannot be used",
    "https://exa%6dple.org/": "cannot be used",
    "https://example.org,evil.test/": "cannot be used",
    "https://[fe80::1%25eth0]/": "cannot be used",
    "http://①②⑦.⓪.⓪.①/": "cannot be read",
    "http://example.org/" + "a" * 5000: "at most 4096",
}


@pytest.mark.parametrize("text", REFUSED)
def test_url_that_is_not_fetched_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(UrlRefusedError, match=REFUSED[text]):
        FetchPolicy().read(text)


@pytest.mark.parametrize(
    ("text", "host", "target"),
    [
        ("https://example.org/a.jpg?size=1", "example.org", b"/a.jpg?size=1"),
        ("HTTP://EXAMPLE.org:80", "example.org", b"/"),
        (" https://example.org:443/ \n", "example.org", b"/"),
        ("http://example.org#@10.0.0.1/", "example.org", b"/"),
        ("http://example.org/a#b?c@10.0.0.1", "example.org", b"/a"),
        ("http://example.org?@10.0.0.1/", "example.org", b"/?@10.0.0.1/"),
        ("https://bücher.example/é.jpg", "xn--bcher-kva.example", b"/%C3%A9.jpg"),
        ("http://[2606:4700::1]/", "2606:4700::1", b"/"),
    ],
)
def test_url_that_is_fetched_asks_its_own_host(text: str, host: str, target: bytes) -> None:
    url = FetchPolicy().read(text)
    assert (url.raw_host.decode(), url.raw_path) == (host, target)


@given(st.text())
def test_url_any_text_is_read_or_refused(text: str) -> None:
    for each in (text, f"http://{text}", f"http://example.org{text}"):
        try:
            url = FetchPolicy().read(each)
        except UrlRefusedError:
            continue
        else:
            assert url.scheme in ("http", "https")
            assert url.raw_host.decode("ascii")


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("example.org", True),
        ("EXAMPLE.ORG", True),
        ("example.org.", True),
        ("a.pictures.test", True),
        ("a.b.pictures.test", True),
        ("pictures.test", False),
        ("evilpictures.test", False),
        ("www.example.org", False),
        ("example.org.evil.test", False),
        ("8.8.8.8", False),
    ],
)
def test_allowed_hosts_are_those_listed_and_those_below_a_star(host: str, allowed: bool) -> None:
    policy = FetchPolicy(allowed_hosts=("example.org", "*.pictures.test"))
    if allowed:
        assert policy.read(f"https://{host}/a.jpg").scheme == "https"
    else:
        with pytest.raises(UrlRefusedError, match="not among those"):
            policy.read(f"https://{host}/a.jpg")
