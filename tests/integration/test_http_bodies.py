"""A picture in the ways that are no form: as the body itself, and in JSON as base64."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.base64_image import base64_length, decode_image_text
from app.core.errors import MalformedBase64Error

JPEG = {"Content-Type": "image/jpeg"}


def of_form(client: TestClient, path: str, data: bytes) -> dict[str, Any]:
    """What the same picture is answered in a form, without the times."""
    return without_timing(client.post(path, files={"image": ("photo.jpg", data, "image/jpeg")}))


def without_timing(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {name: value for name, value in answer.json().items() if name != "timing"}


# -- the body itself ----


@pytest.mark.parametrize("path", ["/caption", "/attention"])
@pytest.mark.parametrize(
    "content_type",
    ["image/jpeg", "Image/JPEG; q=1", "image/png", "image/x-odd", "application/octet-stream"],
)
def test_bytes_as_the_body_are_answered_as_a_form_is(
    client: TestClient, image_file: bytes, path: str, content_type: str
) -> None:
    answer = client.post(path, content=image_file, headers={"Content-Type": content_type})
    assert without_timing(answer) == of_form(client, path, image_file)


def test_bytes_as_the_body_take_their_options_from_the_address(
    client: TestClient, image_file: bytes
) -> None:
    params = {"num_captions": 3}
    answer = client.post("/caption", content=image_file, headers=JPEG, params=params)
    assert len(answer.json()["captions"]) == 3
    drawn = client.post("/attention?format=png", content=image_file, headers=JPEG)
    assert drawn.headers["content-type"] == "image/png"


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd, gzip"])
def test_compressed_body_is_told_as_one_whatever_is_in_it(
    client: TestClient, image_file: bytes, encoding: str
) -> None:
    for content, content_type in ((image_file, "image/jpeg"), (b"{}", "application/json")):
        headers = {"Content-Type": content_type, "Content-Encoding": encoding}
        answer = client.post("/caption", content=content, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (415, "/problems/not-a-form")
        assert f"compressed (Content-Encoding: '{encoding}')" in answer.json()["detail"]
    plain = JPEG | {"Content-Encoding": "identity"}
    assert client.post("/caption", content=image_file, headers=plain).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 400, "missing-image"),
        (b"no picture at all, but text", 415, "unreadable-image"),
        (bytes(20_000_001), 413, "body-too-large"),
    ],
)
def test_bytes_that_are_no_picture_get_their_problem(
    client: TestClient, body: bytes, status: int, slug: str
) -> None:
    answer = client.post("/caption", content=body, headers=JPEG)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")


# -- base64 ----


@pytest.mark.parametrize("path", ["/caption", "/attention"])
def test_base64_in_json_is_answered_as_a_form_is_however_it_is_written(
    client: TestClient, image_file: bytes, path: str
) -> None:
    expected = of_form(client, path, image_file)
    text = base64.b64encode(image_file).decode()
    for written in (
        text,
        text.rstrip("="),
        base64.urlsafe_b64encode(image_file).decode(),
        base64.encodebytes(image_file).decode(),
        f"data:image/jpeg;base64,{text}",
        f"DATA:;base64,{text}",
    ):
        assert without_timing(client.post(path, json={"image": written})) == expected


def test_base64_has_its_options_beside_it_and_null_is_none(
    client: TestClient, image_file: bytes
) -> None:
    text = base64.b64encode(image_file).decode()
    document = {"image": text, "num_captions": 2, "length_penalty": 1, "model": None, "url": None}
    assert len(client.post("/caption", json=document).json()["captions"]) == 2
    drawn = client.post("/attention", json={"image": text, "format": "png", "word": 0})
    assert drawn.headers["content-type"] == "image/png"


GOOD = base64.b64encode(b"glimpse").decode()  # Z2xpbXBzZQ==
BAD: dict[str, tuple[Any, int, str, str]] = {
    "a strange letter": ({"image": "Z2xp.XBz"}, 400, "malformed-base64", "letter 5 is '.'"),
    "a letter beyond ASCII": ({"image": "Z2é"}, 400, "malformed-base64", "letter 3 is '\\xe9'"),
    "a strange space": ({"image": "Z2xp\x0bXBz"}, 400, "malformed-base64", "letter 5 is '\\x0b'"),
    "one letter too few": ({"image": "Z2xpb"}, 400, "malformed-base64", "after 5 letters"),
    "padding within": ({"image": "Z2=xpbXB"}, 400, "malformed-base64", "'=' at letter 3"),
    "two joined": ({"image": GOOD + GOOD}, 400, "malformed-base64", "'=' at letter 11"),
    "three signs": ({"image": "Z2xpbX==="}, 400, "malformed-base64", "more than two '='"),
    "nothing but padding": ({"image": "===="}, 400, "malformed-base64", "more than two '='"),
    "data without a comma": ({"image": "data:image/png"}, 400, "malformed-base64", "comma"),
    "data in percent": ({"image": "data:image/png,%89"}, 400, "malformed-base64", "';base64'"),
    "an address": ({"image": "https://example.org/a.jpg"}, 400, "malformed-base64", "'url'"),
    "an empty text": ({"image": ""}, 400, "empty-image", "0 bytes"),
    "a number": ({"image": 5}, 400, "missing-image", "in base64"),
    "null": ({"image": None}, 400, "missing-image", "in base64"),
    "nothing": ({}, 400, "missing-image", "in base64"),
    "both": ({"image": GOOD, "url": "http://example.org"}, 400, "two-images", "both"),
    "no picture": ({"image": GOOD}, 415, "unreadable-image", "Accepted formats"),
    "an unknown member": ({"image": GOOD, "file": 1}, 400, "unexpected-field", "'file'"),
    "an option as text": ({"image": GOOD, "beam_size": "3"}, 422, "invalid-option", "'3'"),
    "an option of truth": ({"image": GOOD, "beam_size": True}, 422, "invalid-option", "'true'"),
    "an empty option": ({"image": GOOD, "beam_size": ""}, 422, "invalid-option", "beam_size"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_base64_gets_its_problem_and_a_good_one_is_answered(
    client: TestClient, image_file: bytes, name: str
) -> None:
    document, status, slug, detail = BAD[name]
    answer = client.post("/caption", json=document)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{slug}"), problem
    assert detail in problem["detail"]
    good = {"image": base64.b64encode(image_file).decode()}
    assert client.post("/caption", json=good).status_code == 200


LONG_AND_BAD = """
from app.api.base64_image import decode_image_text
from app.core.errors import MalformedBase64Error

for text in ("=" * 20_000_000, "= " * 10_000_000, "A" * 20_000_000 + "!", "A" * 20_000_000 + "==="):
    try:
        decode_image_text(text, "It")
    except MalformedBase64Error as error:
        print(error)
"""


def test_base64_that_is_long_and_bad_is_read_once_and_told_so() -> None:
    # In a process: one that reads such a text anew from each of its letters does not end.
    command = [sys.executable, "-c", LONG_AND_BAD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("It is no base64: ") == 4


@given(st.binary(max_size=60), st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))
def test_base64_of_any_bytes_is_read_with_and_without_its_padding(
    data: bytes, encode: Callable[[bytes], bytes]
) -> None:
    text = encode(data).decode()
    assert len(text) == base64_length(len(data))
    assert decode_image_text(text, "It") == decode_image_text(text.rstrip("="), "It") == data


@given(st.text(max_size=40) | st.text("Aa0+/=-_ \n", max_size=20))
def test_text_of_any_kind_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        data = decode_image_text(text, "It")
    except MalformedBase64Error as error:
        said = str(error)
    else:
        assert base64_length(len(data)) - len(text) <= 2
        return
    assert said.startswith("It ")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["application/json", "image/png"]))
def test_body_of_any_bytes_is_refused_as_the_requests_fault(
    client: TestClient, body: bytes, content_type: str
) -> None:
    answer = client.post("/caption", content=body, headers={"Content-Type": content_type})
    assert 400 <= answer.status_code < 500


# -- how large it may be ----


def test_base64_of_the_largest_picture_is_admitted_and_of_a_larger_one_is_not(
    serve: Callable[..., Any], image_file: bytes
) -> None:
    size = len(image_file)
    with serve(max_upload_bytes=max(size, 1024)) as client:
        largest = image_file + bytes(max(size, 1024) - size)
        good = {"image": base64.b64encode(largest).decode()}
        assert client.post("/caption", json=good).status_code == 200
        assert client.post("/caption", content=largest, headers=JPEG).status_code == 200
        one_more = {"image": base64.b64encode(largest + b"\0").decode()}
        refused = client.post("/caption", json=one_more)
        far_too_large = client.post("/caption", json={"image": "A" * (2 * size + 70_000)})
    assert (refused.status_code, refused.json()["type"]) == (413, "/problems/body-too-large")
    assert f"at most {max(size, 1024)} are accepted" in refused.json()["detail"]
    assert far_too_large.status_code == 413


def test_json_beside_a_picture_is_bounded(client: TestClient) -> None:
    body = json.dumps({"image": "", "model": "m" * 27_000_000})
    answer = client.post("/caption", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
