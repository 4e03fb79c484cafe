"""Under whichever address a client reaches the service, what it reads leads back to it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.settings import Settings
from app.core.settings.sockets import OWN_PATHS
from app.main import create_app


def client_of(
    base_url: str = "http://testserver", peer: str = "192.0.2.1", **settings: Any
) -> TestClient:
    app = create_app(Settings(captioner="fake", **settings))
    return TestClient(app, base_url=base_url, client=(peer, 4711))


def golden(repository: Path) -> dict[str, Any]:
    text = (repository / "tests" / "golden" / "openapi.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def example(client: TestClient, headers: dict[bytes, bytes] | None = None) -> str:
    """The address in the command that a request without a picture is told."""
    told = client.get("/problems/missing-image", headers=headers).json()["example"]
    found = re.search(r"curl \S+ \S+ (\S+)/caption", told)
    assert found, told
    return found[1]


@pytest.mark.parametrize(
    "base", ["http://photos.example", "http://10.0.0.7:9000", "https://[2001:db8::1]:8443"]
)
def test_examples_name_the_address_that_the_client_used(base: str, repository: Path) -> None:
    with client_of(base) as client:
        assert example(client) == base
        expected = json.dumps(golden(repository)).replace("http://localhost:8000", base)
        assert client.get("/openapi.json").json() == json.loads(expected)


@pytest.mark.parametrize(
    "host",
    ["", "[", "a b", "a/../b", "a?b", "user@a", "a:b", "a:1234567", '"><script>', "é", "-a"],
)
def test_host_that_is_none_is_repeated_to_nobody(host: str) -> None:
    headers = {b"Host": host.encode()}
    with client_of() as client:
        answer = client.get("/nowhere", headers=headers)
        assert answer.status_code == 404
        assert answer.json()["detail"] == "There is nothing at /nowhere. See /docs."
        assert example(client, headers) == "http://localhost:80"


def test_forwarded_headers_are_believed_of_trusted_proxies_alone() -> None:
    told = {
        b"X-Forwarded-Proto": b"https",
        b"X-Forwarded-Host": b"photos.example",
        b"X-Forwarded-For": b"203.0.113.5",
    }
    with client_of(peer="10.0.0.1", trusted_proxies="10.0.0.0/8") as client:
        assert example(client, told) == "https://photos.example"
        assert example(client, {b"X-Forwarded-Proto": b"gopher"}) == "http://testserver"
        hostile = {b"X-Forwarded-Host": b'x"><script>'}
        assert example(client, hostile) == "http://localhost:80"
    with client_of(peer="11.0.0.1", trusted_proxies="10.0.0.0/8") as client:
        assert example(client, told) == "http://testserver"


@pytest.mark.parametrize(
    ("schemes", "hosts", "clients", "expected"),
    [
        (
            "https, http",
            "photos.example, inside",
            "203.0.113.5, 10.0.0.9",
            "https://photos.example",
        ),
        # What the client itself had sent stands before it, and is not believed.
        ("http, https", "evil.example, photos.example", "203.0.113.5", "https://photos.example"),
        (
            "http, https, http",
            "evil.example, photos.example, inside",
            "1.2.3.4, 203.0.113.5, 10.0.0.9",
            "https://photos.example",
        ),
        # One proxy put its own word in place of the list.
        ("https", "photos.example", "203.0.113.5, 10.0.0.9", "https://photos.example"),
        ("http, https", "evil.example, photos.example", None, "https://photos.example"),
        ("https,", "photos.example", "203.0.113.5", "http://photos.example"),
    ],
)
def test_forwarded_lists_are_believed_where_the_client_stands_in_them(
    schemes: str, hosts: str, clients: str | None, expected: str
) -> None:
    told = {b"X-Forwarded-Proto": schemes.encode(), b"X-Forwarded-Host": hosts.encode()}
    if clients is not None:
        told[b"X-Forwarded-For"] = clients.encode()
    with client_of(peer="10.0.0.1", trusted_proxies="10.0.0.0/8") as client:
        assert example(client, told) == expected


@pytest.mark.parametrize("trusted", ["10.0.0.1", ""])
def test_client_in_the_log_is_the_one_that_a_trusted_proxy_names(
    trusted: str, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(peer="10.0.0.1", trusted_proxies=trusted) as client, caplog.at_level("INFO"):
        client.get("/models", headers={"X-Forwarded-For": "1.2.3.4, 203.0.113.5"})
    (record,) = [each for each in caplog.records if each.name == "app.access"]
    assert record.__dict__["client"] == ("203.0.113.5" if trusted else "10.0.0.1")


@pytest.mark.parametrize("sent_prefix", ["", "/captioner"])
def test_service_under_a_root_path_answers_whether_the_proxy_strips_it_or_not(
    sent_prefix: str, image_file: bytes
) -> None:
    with client_of("http://photos.example", root_path="/captioner") as client:
        answer = client.post(f"{sent_prefix}/caption", files={"image": ("a.jpg", image_file)})
        assert answer.status_code in (200, 503)  # or still warming up
        assert client.get(f"{sent_prefix}/healthz").json() == {"status": "alive"}
        assert client.head(f"{sent_prefix}/docs").status_code == 200
        assert client.get(f"{sent_prefix}/static/docs.js").status_code == 200
        page = client.get(f"{sent_prefix}/", follow_redirects=False)
        assert (page.status_code, "<title>Glimpse</title>" in page.text) == (200, True)
        document = client.get(f"{sent_prefix}/openapi.json").json()
        assert document["servers"] == [{"url": "/captioner"}]
        assert "http://photos.example/captioner/caption" in json.dumps(document)
        assert '"/problems/' not in json.dumps(document)
        missing = client.get(f"{sent_prefix}/nowhere").json()
        assert missing["type"] == "/captioner/problems/not-found"
        assert missing["detail"] == ("There is nothing at /captioner/nowhere. See /captioner/docs.")
        described = client.get(
            missing["type"].removeprefix("/captioner" if not sent_prefix else "")
        )
        assert described.json()["type"] == missing["type"]
        listed = client.get(f"{sent_prefix}/problems").json()["problems"]
        assert missing["type"] in listed
        assert 'route="/healthz"' in client.get("/metrics").text


def test_root_path_without_its_slash_leads_to_the_page_whose_addresses_are_relative() -> None:
    with client_of(root_path="/captioner") as client:
        answer = client.get("/captioner", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "/captioner/")


def test_root_path_may_begin_as_none_of_the_services_own() -> None:
    app = create_app(Settings(captioner="fake"))
    paths = {"openapi.json", "static", "problems", "docs"} | {
        path.split("/")[1] for path in app.openapi()["paths"]
    }
    assert paths == OWN_PATHS
