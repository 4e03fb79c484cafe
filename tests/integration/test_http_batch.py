"""`POST /caption/batch`: each picture has an answer or a problem of its own, in order."""

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.core.keys import add_key

NOW = datetime.now(UTC)


def picture(red: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 30), (red, 30, 30)).save(file, format="PNG")
    return file.getvalue()


def files(*named: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", each) for each in named]


def metric(client: TestClient, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_batch_answers_each_picture_as_it_is_answered_alone_in_order(client: TestClient) -> None:
    reds = [9, 1, 8, 2, 7, 3, 200]
    answer = client.post(
        "/caption/batch?num_captions=2",
        files=files(*((f"{red}.png", picture(red)) for red in reds)),
    )
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["captioned"], document["failed"]) == (7, 0)
    assert [each["name"] for each in document["pictures"]] == [f"{red}.png" for red in reds]
    assert [each["position"] for each in document["pictures"]] == list(range(7))
    for red, each in zip(reds, document["pictures"], strict=True):
        alone = client.post("/caption?num_captions=2", files=files(("a", picture(red)))).json()
        assert each["status"] == 200
        assert each["answer"]["captions"] == alone["captions"]
        assert "problem" not in each


def test_batch_bad_files_have_the_problem_that_they_have_alone_and_spoil_no_other(
    serve: Callable[..., Any],
) -> None:
    good, text, empty, cut = picture(1), b"no picture, but text", b"", picture(2)[:50]
    large = picture(3) + bytes(5000)
    sent = [good, text, empty, cut, large, good]
    with serve(max_upload_bytes=4096) as client:
        answer = client.post(
            "/caption/batch", files=files(*((str(at), data) for at, data in enumerate(sent)))
        )
        alone = [
            client.post("/caption", content=data, headers={"Content-Type": "image/png"})
            for data in (text, cut, large)
        ]
        refused = metric(client, 'glimpse_picture_problems_total{reason="unreadable-image"}')
        undecoded = metric(client, 'glimpse_decode_failures_total{problem="unreadable-image"}')
    document = answer.json()
    assert (document["captioned"], document["failed"]) == (2, 4)
    statuses = [each["status"] for each in document["pictures"]]
    assert statuses == [200, 415, 400, alone[1].status_code, 413, 200]
    problems = [document["pictures"][at]["problem"] for at in (1, 3, 4)]
    for problem, one in zip(problems, alone, strict=True):
        told = one.json()
        assert (problem["type"], problem["status"]) == (told["type"], told["status"])
        assert problem["instance"] == f"urn:request:{answer.headers['x-request-id']}"
    assert problems[0]["detail"] == alone[0].json()["detail"]
    assert (refused, undecoded) == (1, 2)  # the other one was sent alone


def test_batch_as_json_is_answered_as_its_form_is(client: TestClient) -> None:
    sent = [picture(1), b"no picture", picture(2)]
    texts = [base64.b64encode(data).decode() for data in sent]
    of_json = client.post("/caption/batch", json={"images": texts, "beam_size": 3}).json()
    of_form = client.post(
        "/caption/batch", files=files(*(("a", data) for data in sent)), data={"beam_size": "3"}
    ).json()
    for one, other in zip(of_json["pictures"], of_form["pictures"], strict=True):
        assert "name" not in one
        assert one["status"] == other["status"]
        assert one.get("answer", {}).get("captions") == other.get("answer", {}).get("captions")


BAD: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "no body": ({}, 400, "missing-image", "no body"),
    "no image": ({"files": {"model": (None, "glimpse")}}, 400, "missing-image", "'image'"),
    "bytes": (
        {"content": picture(1), "headers": {"Content-Type": "image/png"}},
        415,
        "not-a-form",
        "-F image=@b.jpg",
    ),
    "too many": ({"files": files(*[("a", b"")] * 5)}, 413, "too-many-images", "at most 4"),
    "far too many": ({"files": files(*[("a", b"")] * 40)}, 413, "too-many-images", "at most 4"),
    "too many texts": ({"json": {"images": ["AAAA"] * 5}}, 413, "too-many-images", "5 pictures"),
    "one is no base64": (
        {"json": {"images": ["AAAA", "A!"]}},
        400,
        "malformed-base64",
        "Picture 2 of 'images' is no base64: letter 2 is '!'",
    ),
    "a text for a list": ({"json": {"images": "AAAA"}}, 400, "missing-image", "a list"),
    "no texts": ({"json": {"images": []}}, 400, "missing-image", "a list"),
    "one image": ({"json": {"image": "AAAA"}}, 400, "unexpected-field", "'images'"),
    "a URL": ({"json": {"url": "https://example.org"}}, 400, "unexpected-field", "'url'"),
    "a path": (
        {"data": {"image": "a.jpg"}, "files": {"model": (None, "glimpse")}},
        400,
        "image-not-a-file",
        "put @",
    ),
    "an option": (
        {"files": files(("a", b"")), "data": {"beam_size": "0"}},
        422,
        "invalid-option",
        "beam_size",
    ),
    "a model": ({"files": files(("a", b"")), "data": {"model": "x"}}, 404, "unknown-model", "'x'"),
    "too large": (
        {"files": files(("a", bytes(60_000)), ("b", bytes(60_000)))},
        413,
        "body-too-large",
        "at most 100000",
    ),
}


@pytest.fixture(scope="module")
def small(serve: Callable[..., Any]) -> Any:
    with serve(max_batch_images=4, max_batch_bytes=100_000) as client:
        yield client


@pytest.mark.parametrize("name", BAD)
def test_batch_that_is_no_batch_gets_one_problem_and_a_good_one_is_answered(
    small: TestClient, name: str
) -> None:
    sent, status, slug, detail = BAD[name]
    answer = small.post("/caption/batch", **sent)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{slug}"), problem
    assert detail in problem["detail"]
    good = small.post("/caption/batch", files=files(*[("a", picture(1))] * 4))
    assert good.json()["captioned"] == 4


def test_batch_of_one_picture_at_most_refuses_a_second_one_as_too_many(
    serve: Callable[..., Any],
) -> None:
    with serve(max_batch_images=1) as client:
        for count in (2, 30):
            refused = client.post("/caption/batch", files=files(*[("a", picture(1))] * count))
            problem = (refused.status_code, refused.json()["type"])
            assert problem == (413, "/problems/too-many-images")
        good = client.post("/caption/batch", files=files(("a", picture(1))))
    assert good.json()["captioned"] == 1


def test_batch_is_no_larger_than_half_of_the_memory_for_uploads(serve: Callable[..., Any]) -> None:
    with serve(max_upload_bytes=10_000, max_upload_memory_bytes=80_000) as client:
        fits = client.post("/caption/batch", files=files(*[("a", bytes(9_000))] * 4))
        larger = client.post("/caption/batch", files=files(*[("a", bytes(9_000))] * 5))
    assert (fits.status_code, larger.status_code) == (200, 413)
    assert "at most 40000" in larger.json()["detail"]


def test_batch_pictures_each_count_in_the_rate_of_their_key_and_all_or_none(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    key = {"X-API-Key": add_key(path, "phone", now=NOW, requests_per_minute=6)}
    other = {"X-API-Key": add_key(path, "other", now=NOW, requests_per_day=6)}
    with serve(keys_file=path) as client:

        def send(count: int, headers: dict[str, str] = key) -> Any:
            sent = files(*[("a", picture(1))] * count)
            return client.post("/caption/batch", files=sent, headers=headers)

        without = client.post("/caption/batch", files=files(("a", picture(1))))
        never, first, second, third = send(7), send(3), send(3), send(2)
        of_a_day = [send(count, other).status_code for count in (4, 3, 1)]
        again = send(2, other)
    assert without.status_code == 401
    assert [each.status_code for each in (never, first, second, third)] == [429, 200, 429, 429]
    assert "each picture counts as one" in never.json()["detail"]
    assert "Send fewer at a time" in never.json()["detail"]
    # The refused ones took one each, the requests themselves.
    assert '"minute";r=2;' in first.headers["ratelimit"]
    assert '"minute";r=1;' in second.headers["ratelimit"]
    assert 0 < int(second.headers["retry-after"]) <= 20
    assert of_a_day == [200, 429, 200]
    assert "after midnight UTC" in again.json()["detail"]


def test_batch_whose_time_is_over_keeps_what_is_done(serve: Callable[..., Any]) -> None:
    with serve(fake_batch_seconds=0.5, max_batch_size=1) as client:
        answer = client.post(
            "/caption/batch",
            files=files(*[("a", picture(red)) for red in range(20)]),
            headers={"X-Request-Timeout-Seconds": "2"},
        )
    document = answer.json()
    assert answer.status_code == 200
    assert document["captioned"] in (1, 2, 3)
    late = [each for each in document["pictures"] if each["status"] == 503]
    assert len(late) == document["failed"] == 20 - document["captioned"]
    assert {each["problem"]["type"] for each in late} == {"/problems/timed-out"}
    assert all(each["retry_after_seconds"] >= 1 for each in late)


def test_batch_of_more_than_the_queue_holds_refuses_those_alone(serve: Callable[..., Any]) -> None:
    with serve(fake_batch_seconds=0.1, max_batch_size=1, max_queue_size=2) as client:
        answer = client.post(
            "/caption/batch", files=files(*[("a", picture(red)) for red in range(12)])
        )
    document = answer.json()
    refused = [each for each in document["pictures"] if each["status"] != 200]
    assert document["captioned"] >= 3
    assert refused
    assert {each["problem"]["type"] for each in refused} == {"/problems/queue-full"}
