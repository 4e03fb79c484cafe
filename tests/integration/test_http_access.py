"""Who may ask, and how often: keys, rates, pages of other sites, names, and what browsers are
told."""

import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from app.api.problem_kinds import HTTP_PROBLEMS, PROBLEMS
from app.core.keys import add_key, read_keys, revoke_key
from app.core.settings import Settings
from app.main import create_app

OPEN = ("/", "/docs", "/openapi.json", "/problems", "/problems/busy", "/static/docs.js")
PROBES = ("/healthz", "/readyz")
GUARDED = ("/models", "/models/glimpse", "/metrics", "/nowhere", "/static", "/problem")
NOW = datetime.now(UTC)
FAR_AWAY = "https://example.org"


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def key(keys_file: Path) -> str:
    return add_key(keys_file, "phone", now=NOW)


@pytest.fixture(scope="module")
def closed(serve: Callable[..., Any], keys_file: Path, key: str) -> Iterator[TestClient]:
    """A service that needs keys."""
    assert key
    with serve(keys_file=keys_file) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def send(client: TestClient, image_file: bytes, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/caption", files={"image": image_file}, headers=named)


# -- keys ----


def test_key_is_needed_for_all_but_what_explains_and_the_probes(
    closed: TestClient, key: str
) -> None:
    for path in (*OPEN, *PROBES):
        assert closed.get(path, follow_redirects=False).status_code in (200, 307), path
        assert closed.post(path).status_code == 401, path
    for path in GUARDED:
        assert closed.get(path).status_code == 401, path
        assert closed.get(path, headers=bearer(key)).status_code in (200, 404), path


def test_key_is_needed_by_every_route_that_is_not_named_as_open(closed: TestClient) -> None:
    app: Any = closed.app
    routers = [route.original_router for route in app.routes if hasattr(route, "original_router")]
    routes = [route for router in routers for route in router.routes]
    assert all(isinstance(route, APIRoute) for route in routes)
    assert {"/caption", "/attention", "/models"} <= {route.path for route in routes}
    for route in routes:
        path = re.sub(r"\{\w+\}", "busy", route.path)
        for method in route.methods:
            status = closed.request(method, path, follow_redirects=False).status_code
            assert (status == 401) == (path not in (*OPEN, *PROBES)), (method, path)


def test_key_in_either_header_is_good(closed: TestClient, key: str, image_file: bytes) -> None:
    assert send(closed, image_file, Authorization=f"Bearer {key}").status_code == 200
    assert send(closed, image_file, Authorization=f"bearer  {key}").status_code == 200
    assert send(closed, image_file, X_API_Key=key).status_code == 200
    assert send(closed, image_file, X_API_Key=key, Authorization="Basic abc").status_code == 200


def test_key_that_is_missing_wrong_or_ambiguous_is_answered_alike(
    serve: Callable[..., Any], tmp_path: Path, image_file: bytes
) -> None:
    path = tmp_path / "keys.json"
    good = add_key(path, "phone", now=NOW)
    expired = add_key(path, "old", now=NOW - timedelta(days=9), expires_days=1)
    with serve(keys_file=path) as client:
        answers = [
            send(client, image_file),
            send(client, image_file, X_API_Key=good[:-1]),
            send(client, image_file, X_API_Key=good.replace("phone", "nobody")),
            send(client, image_file, X_API_Key=expired),
            send(client, image_file, X_API_Key=good, Authorization=f"Bearer {expired}"),
            send(client, image_file, Authorization=f"Basic {good}"),
            send(client, image_file, Authorization=good),
            client.post(f"/caption?key={good}&api_key={good}", files={"image": image_file}),
            client.post("/caption", files={"image": image_file}, data={"key": good}),
            client.post("/caption", files={"image": image_file}, headers={"Cookie": f"key={good}"}),
        ]
    problems = []
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="glimpse"'
        assert answer.headers["content-type"] == "application/problem+json"
        problems.append(answer.json() | {"instance": ""})
    assert all(problem == problems[0] for problem in problems)
    assert problems[0]["type"] == "/problems/key-needed"


def test_keys_wrong_ones_are_answered_429_in_the_end_and_the_right_one_still_passes(
    serve: Callable[..., Any], keys_file: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = key[:-4] + "0000"
    with serve(keys_file=keys_file) as client, caplog.at_level(logging.WARNING, "app.api.access"):
        answers = [client.get("/models", headers=bearer(wrong)) for _ in range(15)]
        right = client.get("/models", headers=bearer(key))
        without = client.get("/models")
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 5
    assert int(answers[-1].headers["retry-after"]) in range(1, 7)
    assert (right.status_code, without.status_code) == (200, 401)
    records = [record for record in caplog.records if record.name == "app.api.access"]
    lines = [record.getMessage() for record in records]
    assert len(lines) == 10
    assert set(lines) == {"a key that is not good, from testclient: phone"}


def test_key_made_and_revoked_while_serving(
    serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.core.keys._SECONDS_BETWEEN_LOOKS", 0.0)
    path = tmp_path / "keys.json"
    first = add_key(path, "first", now=NOW)
    with serve(keys_file=path) as client:
        assert client.get("/models", headers=bearer(first)).status_code == 200
        second = add_key(path, "second", now=NOW)
        assert client.get("/models", headers=bearer(second)).status_code == 200
        revoke_key(path, "first")
        assert client.get("/models", headers=bearer(first)).status_code == 401
        assert client.get("/models", headers=bearer(second)).status_code == 200
        path.write_text("{", encoding="utf-8")
        assert client.get("/models", headers=bearer(second)).status_code == 200


def test_metrics_are_open_where_the_setting_says_so(
    serve: Callable[..., Any], keys_file: Path, key: str
) -> None:
    with serve(keys_file=keys_file, metrics_open=True) as client:
        assert client.get("/models", headers=bearer(key)).status_code == 200
        assert client.get("/metrics").status_code == 200
        assert client.get("/models").status_code == 401
        assert 'glimpse_refused_total{reason="key-needed"} 1.0' in client.get("/metrics").text


def test_access_log_names_the_key_and_never_shows_it(
    closed: TestClient, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "app.access"):
        closed.get("/models", headers=bearer(key))
    (record,) = caplog.records
    assert vars(record)["key"] == "phone"
    assert key not in str(vars(record))


# -- rates ----


def test_rate_of_an_address_is_told_on_every_answer_and_held(
    serve: Callable[..., Any], image_file: bytes
) -> None:
    with serve(requests_per_minute=3, requests_per_day=100) as client:
        answers = [send(client, image_file) for _ in range(2)]
        answers += [client.get("/nowhere"), client.get("/models"), send(client, image_file)]
        others = [client.get(path, follow_redirects=False) for path in (*OPEN, *PROBES, "/metrics")]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 429, 429]
    policy = '"minute";q=3;w=60, "day";q=100;w=86400'
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {policy}
    left = [re.findall(r"r=(\d+);t=(\d+)", answer.headers["ratelimit"]) for answer in answers]
    assert [int(minute[0]) for minute, _ in left] == [2, 1, 0, 0, 0]
    assert [int(day[0]) for _, day in left] == [99, 98, 97, 97, 97]
    assert all(0 < int(minute[1]) <= 60 and 0 < int(day[1]) <= 86_400 for minute, day in left)
    problem = answers[-1].json()
    assert problem["type"] == "/problems/too-many-requests"
    assert "3 requests a minute are allowed" in problem["detail"]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 20
    for other in others:
        assert other.status_code in (200, 307)
        assert "ratelimit" not in other.headers


def test_rate_of_a_day_says_when_it_begins_anew(serve: Callable[..., Any]) -> None:
    with serve(requests_per_day=1) as client:
        assert client.get("/models").status_code == 200
        refused = client.get("/models")
    assert refused.status_code == 429
    assert "1 requests a day are allowed" in refused.json()["detail"]
    assert "after midnight UTC" in refused.json()["detail"]


def test_rate_of_a_key_is_its_own_and_wrong_keys_use_none_of_it(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    usual = add_key(path, "usual", now=NOW)
    small = add_key(path, "small", now=NOW, requests_per_minute=1)
    free = add_key(path, "free", now=NOW, requests_per_minute=0)
    assert [each.requests_per_minute for each in read_keys(path).keys] == [None, 1, 0]
    with serve(keys_file=path, requests_per_minute=2) as client:

        def statuses(key: str) -> list[int]:
            return [client.get("/models", headers=bearer(key)).status_code for _ in range(4)]

        assert client.get("/models", headers=bearer(f"{usual}x")).status_code == 401
        assert statuses(usual) == [200, 200, 429, 429]
        assert statuses(small) == [200, 429, 429, 429]
        assert statuses(free) == [200, 200, 200, 200]


def test_answers_without_limits_have_no_rate_headers(client: TestClient) -> None:
    assert "ratelimit" not in client.get("/models").headers


# -- pages of other sites ----


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "http://testserver:80"}, 200),
        ({"Origin": "https://testserver"}, 200),  # a proxy in front speaks TLS
        ({"Origin": "https://testserver", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": FAR_AWAY, "X-Forwarded-Host": "example.org"}, 200),
        ({"Origin": FAR_AWAY}, 403),
        ({"Origin": "http://testserver:3000"}, 403),
        ({"Origin": "http://testserver.example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "file://"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://other.testserver"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"}, 403),
    ],
    ids=str,
)
def test_post_of_a_foreign_page_is_refused_and_of_our_own_is_not(
    client: TestClient, image_file: bytes, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/caption", files={"image": image_file}, headers=headers)
    assert answer.status_code == status, answer.text
    assert "access-control-allow-origin" not in answer.headers
    if status == 403:
        assert answer.json()["type"] == "/problems/foreign-page"


def test_foreign_page_may_ask_and_cannot_read(client: TestClient) -> None:
    answer = client.get("/models", headers={"Origin": FAR_AWAY, "Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    asked = {"Origin": FAR_AWAY, "Access-Control-Request-Method": "POST"}
    preflight = client.options("/caption", headers=asked)
    assert preflight.status_code == 405
    assert "access-control-allow-origin" not in preflight.headers


def test_cors_allowed_origin_may_send_and_read_also_problems(
    serve: Callable[..., Any], keys_file: Path, key: str, image_file: bytes
) -> None:
    with serve(cors_origins=f"{FAR_AWAY}, http://localhost:3000", keys_file=keys_file) as client:
        asked = {
            "Origin": FAR_AWAY,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        preflight = client.options("/caption", headers=asked)  # browsers send no key with it
        good = send(client, image_file, Origin=FAR_AWAY, X_API_Key=key, Sec_Fetch_Site="cross-site")
        refused = send(client, image_file, Origin=FAR_AWAY, Sec_Fetch_Site="cross-site")
        other = send(client, image_file, Origin="https://example.com", X_API_Key=key)
    assert preflight.status_code == 200
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert (good.status_code, refused.status_code, other.status_code) == (200, 401, 403)
    for answer in (preflight, good, refused):
        assert answer.headers["access-control-allow-origin"] == FAR_AWAY
    exposed = good.headers["access-control-expose-headers"].split(", ")
    assert {"X-Request-ID", "RateLimit", "RateLimit-Policy", "Retry-After"} == set(exposed)
    assert "access-control-allow-origin" not in other.headers


def test_cors_star_allows_every_page(serve: Callable[..., Any], image_file: bytes) -> None:
    with serve(cors_origins="*") as client:
        answer = send(client, image_file, Origin=FAR_AWAY, Sec_Fetch_Site="cross-site")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"


# -- names ----


@pytest.fixture(scope="module")
def local(serve: Callable[..., Any]) -> Iterator[TestClient]:
    """A service with no other names than this machine's."""
    with serve(allowed_hosts="localhost") as client:
        yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("example.org", 421),
        ("example.org:8000", 421),
        ("localhost.example.org", 421),
        ("an_odd.name", 421),
        ("localhost:8000:8000", 421),
        ("local host", 421),
        ("user@localhost", 421),
        ("0.0.0.0", 421),
    ],
)
def test_host_that_is_not_this_machines_is_refused_on_loopback(
    local: TestClient, image_file: bytes, host: str, status: int
) -> None:
    asked = {"Host": host}
    assert local.get("/models", headers=asked).status_code == status
    assert local.get("/docs", headers=asked).status_code == status
    assert local.get("/healthz", headers=asked).status_code == 200
    answer = send(local, image_file, Host=host, Origin=f"http://{host}")
    assert answer.status_code == status
    assert status == 200 or answer.json()["type"] == "/problems/wrong-host"


def test_host_that_is_allowed_is_served(serve: Callable[..., Any]) -> None:
    with serve(allowed_hosts="example.org, glimpse") as client:
        for host in ("example.org", "Example.org:443", "glimpse:8000", "localhost"):
            assert client.get("/models", headers={"Host": host}).status_code == 200
        assert client.get("/models", headers={"Host": "a.example.org"}).status_code == 421


# -- what browsers are told ----


def test_security_headers_are_on_every_answer(
    closed: TestClient, key: str, image_file: bytes
) -> None:
    answers = [closed.get(path, follow_redirects=False) for path in (*OPEN, *PROBES, *GUARDED)]
    answers += [send(closed, image_file, X_API_Key=key), send(closed, b"", X_API_Key=key)]
    answers += [send(closed, image_file, Origin=FAR_AWAY), closed.options("/caption")]
    assert {answer.status_code for answer in answers} >= {200, 400, 401, 403}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "geolocation=()" in answer.headers["permissions-policy"]
        assert "server" not in answer.headers
        is_static = answer.url.path.startswith("/static/")
        assert answer.headers["cache-control"] == ("no-cache" if is_static else "no-store")


def test_answer_after_an_unforeseen_error_has_them_too_and_tells_nothing_of_the_inside(
    serve: Callable[..., Any], image_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret of /srv/glimpse/app/engine.py line 7")

    with serve() as client:
        monkeypatch.setattr(client.app.state.engine, "caption", fail)
        answer = send(client, image_file)
    assert answer.status_code == 500
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert not INSIDE.search(answer.text)


# What only somebody inside needs to know: paths, modules, traces, versions, addresses in memory.
INSIDE = re.compile(
    r"Traceback|\bFile \"|line \d+(?!, column)|\.py\b|site-packages|/srv/|/opt/|/usr/|/tmp/"
    r"|0x[0-9a-f]{6,}|uvicorn|starlette|fastapi|pydantic|torch|h11|python/|Python \d|Pillow|PIL\."
    r"|\b\w+(?:Error|Exception)\b|secret of",
    re.IGNORECASE,
)


def test_problems_tell_nothing_of_the_inside() -> None:
    for kind in (*PROBLEMS.values(), *HTTP_PROBLEMS.values()):
        assert not INSIDE.search(f"{kind.type} {kind.title} {kind.example}"), kind


@pytest.mark.parametrize("path", ["/caption", "/attention", "/models/%00", "/static/%00", "/%ff"])
def test_provoked_errors_tell_nothing_of_the_inside(client: TestClient, path: str) -> None:
    odd = {"image": ("../../etc/passwd\0", b"\x89PNG\r\n\x1a\n" + bytes(50), "x/y; charset=utf-9")}
    answers = [
        client.get(path),
        client.post(path, content=b"x" * 100),
        client.post(path, content=b"x", headers={"Content-Type": "multipart/form-data"}),
        client.post(path, files=odd),
        client.post(path, files=odd, params={"beam_size": "1e999", "model": "../../etc"}),
        client.post(path, files=odd, params={"format": "png", "word": "-1"}),
        client.request("BREW", path),
        client.get(path, headers={"Accept": "\x7f", "Range": "bytes=9-1"}),
    ]
    for answer in answers:
        assert answer.status_code >= 400
        assert not INSIDE.search(answer.text), answer.text
        assert not INSIDE.search(str(answer.headers)), answer.headers


# -- the document ----


def test_openapi_says_whether_a_key_is_needed_and_how_refusals_look(keys_file: Path) -> None:
    def document(**settings: Any) -> Any:
        return create_app(Settings(captioner="fake", **settings)).openapi()

    ways: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
    free, closed = document(), document(keys_file=keys_file)
    assert set(free["components"]["securitySchemes"]) == {"bearer", "header"}
    caption = closed["paths"]["/caption"]["post"]
    assert caption["security"] == ways
    assert free["paths"]["/caption"]["post"]["security"] == [{}, *ways]
    assert {"401", "403", "421", "429"} <= caption["responses"].keys()
    assert "429" in closed["paths"]["/models"]["get"]["responses"]
    assert "security" not in closed["paths"]["/healthz"]["get"]
    assert closed["paths"]["/metrics"]["get"]["security"] == ways
    waived = document(keys_file=keys_file, metrics_open=True)
    assert waived["paths"]["/metrics"]["get"]["security"] == [{}, *ways]
