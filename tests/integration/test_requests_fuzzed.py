"""Whatever options, forms and ids a request has: the real service answers it, or says what is wrong
with it in a problem document of the request's own fault."""

import re
from typing import Any
from urllib.parse import urlencode

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.api.options import AttentionOptions

FORGIVING = settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
BOUNDARY = b"edge"
VALUES = st.one_of(
    st.integers(-3, 60).map(str),
    st.integers().map(str),
    st.floats().map(str),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.sampled_from(["", " ", "1", "2", "5", "json", "png", "glimpse", "null", "1_0", "٣", "0x1"]),
)
OPTIONS = st.dictionaries(st.sampled_from(sorted(AttentionOptions.model_fields)), VALUES)


def outcome(response: Any) -> tuple[int, Any]:
    """Status, and the caption or the problem without its id; a fault of the service fails."""
    assert response.status_code < 500, response.text
    if response.headers["content-type"] == "image/png":
        return response.status_code, "drawing"
    document = response.json()
    if response.status_code == 200:
        return 200, document["caption"]
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == response.status_code
    return response.status_code, (document["type"], document["detail"])


@FORGIVING
@given(options=OPTIONS)
def test_options_mean_the_same_in_the_address_and_in_the_form(
    client: TestClient, image_file: bytes, options: dict[str, str]
) -> None:
    file = {"image": ("photo.jpg", image_file, "image/jpeg")}
    # An empty field of the form is left out, as pages send every field that they have.
    options = {name: value for name, value in options.items() if value.strip()}
    in_address = outcome(client.post("/attention", params=options, files=file))
    in_form = outcome(client.post("/attention", data=options, files=file))
    assert in_address == in_form


@FORGIVING
@given(pairs=st.lists(st.tuples(VALUES, VALUES), max_size=4))
def test_options_of_any_name_are_refused_in_words(
    client: TestClient, image_file: bytes, pairs: list[tuple[str, str]]
) -> None:
    file = {"image": ("photo.jpg", image_file, "image/jpeg")}
    status, said = outcome(client.post("/caption", params=urlencode(pairs), files=file))
    assert status in (200, 400, 422)
    assert status == 200 or said[1].endswith((".", "?"))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A multipart body, whole or not: lines, headers and names that may be anything."""
    names = st.sampled_from([b"image", b"beam_size", b"model"]) | st.binary(max_size=8)
    headers = st.one_of(
        st.builds(lambda name: b'Content-Disposition: form-data; name="' + name + b'"', names),
        st.builds(
            lambda name, file: (
                b'Content-Disposition: form-data; name="' + name + b'"; filename="' + file + b'"'
            ),
            names,
            st.binary(max_size=8),
        ),
        st.just(b"Content-Disposition: form-data; name*=utf-16''%ff%fe"),
        st.just(b"Content-Type: text/plain; charset=utf-7"),
        st.just(b"Content-Transfer-Encoding: base64"),
        st.binary(max_size=30),
    )
    pieces = []
    for _ in range(draw(st.integers(0, 4))):
        pieces.append(b"--" + BOUNDARY + draw(st.sampled_from([b"\r\n", b"\n", b"", b"--\r\n"])))
        for header in draw(st.lists(headers, max_size=3)):
            pieces.append(header + b"\r\n")
        pieces.append(draw(st.sampled_from([b"\r\n", b"\n", b""])))
        pieces.append(draw(st.binary(max_size=40) | st.just(b"5")) + b"\r\n")
    pieces.append(draw(st.sampled_from([b"--edge--\r\n", b"--edge--", b"--edge", b""])))
    return b"".join(pieces)


@settings(FORGIVING, max_examples=120)
@example(  # a file whose part never ends
    body=b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc',
    path="/caption",
)
@given(body=bodies() | st.binary(max_size=100), path=st.sampled_from(["/caption", "/attention"]))
def test_form_of_any_bytes_is_read_or_refused(client: TestClient, body: bytes, path: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    status, _ = outcome(client.post(path, content=body, headers=headers))
    assert status in (200, 400, 404, 415, 422)


@FORGIVING
@given(
    kind=st.binary(max_size=60).filter(lambda text: not set(text) & set(b"\r\n\0")),
    boundary=st.booleans(),
)
def test_content_type_of_any_bytes_is_read_or_refused(
    client: TestClient, kind: bytes, boundary: bool
) -> None:
    value = (b"multipart/form-data; boundary=" if boundary else b"") + kind
    response = client.post("/caption", content=b"--edge--", headers={b"Content-Type": value})
    assert outcome(response)[0] in (400, 415)


@FORGIVING
@given(given_id=st.binary(max_size=80).filter(lambda text: not set(text) & set(b"\r\n\0")))
def test_request_id_of_any_bytes_is_answered_as_it_is_or_replaced(
    client: TestClient, given_id: bytes
) -> None:
    response = client.get("/nowhere", headers={b"X-Request-ID": given_id})
    answered = response.headers["x-request-id"]
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", answered)
    if answered.encode() != given_id:
        assert re.fullmatch("[0-9a-f]{32}", answered)
    assert response.json()["instance"] == f"urn:request:{answered}"
