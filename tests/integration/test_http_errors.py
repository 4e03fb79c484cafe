"""Bad input: each kind has its own problem document, and the next good request is answered as
before."""

import importlib
import inspect
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.api.errors import problem_response
from app.api.problem_kinds import INTERNAL, PROBLEMS, kind_of
from app.core.errors import BusyError, ModelUnavailableError, ServiceError
from app.core.settings import DEFAULT_MODEL
from app.engine import decoder_process
from app.engine.fake import FakeCaptioner
from models.errors import GlimpseError

Send = Callable[[TestClient, bytes], Any]


def send(data: bytes, *, field: str = "image", path: str = "/caption", **options: Any) -> Send:
    return lambda client, _: client.post(
        path, files={field: ("photo.jpg", data, "image/jpeg")}, params=options
    )


def send_image(path: str = "/caption", *, field: str = "image", **options: Any) -> Send:
    return lambda client, image_file: send(image_file, field=field, path=path, **options)(
        client, image_file
    )


def one_pixel() -> bytes:
    file = BytesIO()
    Image.new("RGB", (1, 1)).save(file, format="PNG")
    return file.getvalue()


def png_of_200_megapixels() -> bytes:
    """A real PNG of 20,000 x 10,000 gray pixels, all the same: about 200 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    compressor = zlib.compressobj(9)
    row = bytes(20_001)
    rows = b"".join(compressor.compress(row) for _ in range(10_000)) + compressor.flush()
    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def raw(content: bytes, content_type: str | None) -> Send:
    headers = {} if content_type is None else {"Content-Type": content_type}
    return lambda client, _: client.post("/caption", content=content, headers=headers)


def form_of_text(model: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + model + b"\r\n--x--\r\n"


def form_of_parts(count: int, parameter: bytes) -> bytes:
    part = b"--x\r\nContent-Disposition: form-data; " + parameter + b"\r\n\r\n0\r\n"
    return count * part + b"--x--\r\n"


def chunked(size_bytes: int) -> Send:
    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(size_bytes // 65_536):
            yield bytes(65_536)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return lambda client, _: client.post("/caption", content=body(), headers=headers)


def two_images(client: TestClient, image_file: bytes) -> Any:
    return client.post(
        "/caption", files=[("image", ("a.jpg", image_file)), ("image", ("b.jpg", image_file))]
    )


def many_files(client: TestClient, image_file: bytes) -> Any:
    return client.post("/caption", files=[("image", ("a.jpg", image_file))] * 20)


def path_as_text(client: TestClient, _image_file: bytes) -> Any:
    return client.post(
        "/caption", data={"image": "photo.jpg"}, files={"model": (None, DEFAULT_MODEL)}
    )


def option_as_file(client: TestClient, image_file: bytes) -> Any:
    return client.post(
        "/caption", files={"image": ("a.jpg", image_file), "beam_size": ("b.txt", b"3")}
    )


def option_too_long(client: TestClient, image_file: bytes) -> Any:
    return client.post(
        "/caption", files={"image": ("a.jpg", image_file)}, data={"model": "m" * 5000}
    )


def contradiction(client: TestClient, image_file: bytes) -> Any:
    return client.post(
        "/caption?beam_size=2", files={"image": ("a.jpg", image_file)}, data={"beam_size": "3"}
    )


def form_option_out_of_bounds(client: TestClient, image_file: bytes) -> Any:
    return client.post(
        "/caption", files={"image": ("a.jpg", image_file)}, data={"beam_size": "1000"}
    )


BAD: dict[str, tuple[Send, int, str, str]] = {
    "no body": (raw(b"", None), 400, "missing-image", "curl -F image=@"),
    "no file": (
        lambda client, _: client.post("/caption", files={"model": (None, DEFAULT_MODEL)}),
        400,
        "missing-image",
        "no field named 'image'",
    ),
    "empty file": (send(b""), 400, "empty-image", "0 bytes"),
    "text named .jpg": (
        send(b"hello, I am a text\n" * 9),
        415,
        "unreadable-image",
        "Accepted formats: JPEG, PNG",
    ),
    "truncated JPEG": (
        lambda client, image_file: send(image_file[: len(image_file) // 2])(client, image_file),
        422,
        "damaged-image",
        "Send the complete file",
    ),
    "one pixel": (send(one_pixel()), 422, "image-too-small", "at least 16"),
    "200 megapixels": (
        send(png_of_200_megapixels()),
        413,
        "too-many-pixels",
        "at most 50 megapixels",
    ),
    "50 MB": (send(bytes(50_000_000)), 413, "body-too-large", "at most 20000000"),
    "50 MB elsewhere": (
        send(bytes(50_000_000), path="/nowhere"),
        413,
        "body-too-large",
        "at most 20000000",
    ),
    "50 MB chunked": (chunked(50_000_000), 413, "body-too-large", "larger than 20000000 bytes"),
    "unknown model": (
        send_image(model="nonesuch"),
        404,
        "unknown-model",
        f"Models: {DEFAULT_MODEL}",
    ),
    "beam_size 0": (
        send_image(beam_size=0),
        422,
        "invalid-option",
        "beam_size must be 1 to 20, but is '0'",
    ),
    "beam_size 1000": (
        send_image(beam_size=1000),
        422,
        "invalid-option",
        "beam_size must be 1 to 20, but is '1000'",
    ),
    "beam_size three": (
        send_image(beam_size="three"),
        422,
        "invalid-option",
        "beam_size must be 1 to 20",
    ),
    "beam_size in the form": (
        form_option_out_of_bounds,
        422,
        "invalid-option",
        "beam_size must be 1 to 20",
    ),
    "length_penalty nan": (
        send_image(length_penalty="nan"),
        422,
        "invalid-option",
        "length_penalty must be 0 to 2",
    ),
    "more captions than beams": (
        send_image(beam_size=2, num_captions=3),
        422,
        "invalid-option",
        "beam_size is 2",
    ),
    "option of the model alone": (
        send_image(avoid_echoes="true"),
        422,
        "invalid-option",
        "There is no option named avoid_echoes",
    ),
    "misspelt option": (send_image(beamsize=2), 422, "invalid-option", "Did you mean beam_size?"),
    "option twice": (contradiction, 422, "invalid-option", "Give it once"),
    "option twice in the address": (
        lambda client, image_file: client.post(
            "/caption?model=a&model=b", files={"image": ("a.jpg", image_file)}
        ),
        422,
        "invalid-option",
        "model is 2 times in the address",
    ),
    "option as file": (option_as_file, 400, "unexpected-field", "Only 'image' is a file"),
    "option too long": (option_too_long, 400, "malformed-form", "has more than 1,024 bytes"),
    "wrong field name": (
        send_image(field="file"),
        400,
        "unexpected-field",
        "'file'. The picture is expected in",
    ),
    "two images": (two_images, 400, "repeated-field", "2 times"),
    "twenty images": (many_files, 400, "malformed-form", "it has more than 4 files"),
    "twenty options": (
        raw(form_of_parts(20, b'name="a"'), "multipart/form-data; boundary=x"),
        400,
        "malformed-form",
        "it has more than 16 fields",
    ),
    "nameless part": (
        raw(form_of_parts(1, b'of="a"'), "multipart/form-data; boundary=x"),
        400,
        "malformed-form",
        "one of its parts has no name",
    ),
    "path as text": (path_as_text, 400, "image-not-a-file", "put @ before the path"),
    "bare image as a form of curl's": (
        lambda client, image_file: raw(image_file, "application/x-www-form-urlencoded")(
            client, image_file
        ),
        415,
        "not-a-form",
        "-H 'Content-Type: image/jpeg'",
    ),
    "JSON of nothing": (raw(b"{}", "application/json"), 400, "missing-image", "in base64"),
    "JSON of another kind": (raw(b"{}", "application/ld+json"), 415, "not-a-form", "ld+json"),
    "no boundary": (
        raw(b"hello", "multipart/form-data"),
        400,
        "malformed-form",
        "names no boundary",
    ),
    "lone surrogate": (
        raw(form_of_text(rb"\ud800"), "multipart/form-data; boundary=x; charset=unicode_escape"),
        400,
        "malformed-form",
        "Send UTF-8",
    ),
    "text in no charset": (
        raw(form_of_text(rb"\ud800"), "multipart/form-data; boundary=x; charset=punycode"),
        400,
        "malformed-form",
        "Send UTF-8",
    ),
    "no parts": (
        raw(b"hello", "multipart/form-data; boundary=x"),
        400,
        "malformed-form",
        "not divided as its Content-Type says",
    ),
    "wrong method": (
        lambda client, _: client.get("/caption"),
        405,
        "method-not-allowed",
        "POST is",
    ),
    "wrong path": (lambda client, _: client.get("/captions"), 404, "not-found", "/docs"),
    "word without PNG": (send_image("/attention", word=1), 422, "invalid-option", "add format=png"),
    "word beyond the caption": (
        send_image("/attention", word=40, format="png"),
        422,
        "invalid-option",
        "0 to 7 exist",
    ),
    "word negative": (
        send_image("/attention", word=-1, format="png"),
        422,
        "invalid-option",
        "word",
    ),
    "unknown format": (
        send_image("/attention", format="gif"),
        422,
        "invalid-option",
        "'json' or 'png'",
    ),
    "unknown model's page": (
        lambda client, _: client.get("/models/none"),
        404,
        "unknown-model",
        "Models: ",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request_gets_its_problem_and_the_next_good_one_is_answered(
    client: TestClient, image_file: bytes, name: str
) -> None:
    send_bad, status, slug, detail = BAD[name]
    good = {"image": ("photo.jpg", image_file, "image/jpeg")}
    before = client.post("/caption", files=good).json()

    response = send_bad(client, image_file)

    problem = response.json()
    assert (response.status_code, problem["type"]) == (status, f"/problems/{slug}"), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert detail in problem["detail"]
    assert problem["status"] == status
    assert problem["title"]
    assert problem["instance"] == f"urn:request:{response.headers['x-request-id']}"
    assert client.get(problem["type"]).json()["status"] == status
    assert client.post("/caption", files=good).json()["captions"] == before["captions"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/attention", "POST"),
        ("/models", "GET"),
        ("/jobs", "POST"),
        ("/jobs/a", "DELETE, GET"),
    ],
)
def test_wrong_method_names_the_right_ones_in_allow(
    client: TestClient, path: str, allowed: str
) -> None:
    answer = client.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert f"PUT is not answered at {path}; {allowed} is." in answer.json()["detail"]


def test_several_wrong_options_are_all_named(client: TestClient, image_file: bytes) -> None:
    response = send_image(beam_size=0, max_length=99)(client, image_file)
    assert [error["option"] for error in response.json()["errors"]] == ["beam_size", "max_length"]


def leaves(base: type[Exception]) -> set[type[Exception]]:
    """Every class of the family that the service can meet: training's, loaded by other tests, it
    never does."""
    found = {base}.union(*(leaves(each) for each in base.__subclasses__()))
    return {each for each in found if not each.__module__.startswith("training.")}


@pytest.mark.parametrize("base", [GlimpseError, ServiceError])
def test_error_every_class_has_its_own_line_in_the_table(base: type[Exception]) -> None:
    assert [each.__name__ for each in leaves(base) if each not in PROBLEMS] == []


@pytest.mark.parametrize("module", ["models.errors", "app.core.errors"])
def test_error_modules_list_and_draw_every_class(module: str) -> None:
    found = importlib.import_module(module)
    names = {
        name
        for name, value in vars(found).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert sorted(names) == found.__all__
    assert all(name in str(found.__doc__) for name in names)


def test_error_kinds_of_one_slug_agree() -> None:
    by_slug = {kind.slug: kind for kind in PROBLEMS.values()}
    assert all(by_slug[kind.slug] == kind for kind in PROBLEMS.values())


def test_error_unforeseen_is_internal() -> None:
    assert kind_of(ZeroDivisionError()) is INTERNAL


def test_failure_inside_is_a_500_without_its_text_and_the_log_has_both(
    image_file: bytes,
    serve: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "/secret/path/of/weights"
    with serve() as client:
        good = {"image": ("photo.jpg", image_file, "image/jpeg")}

        def fail(*_: Any) -> Any:
            raise RuntimeError(secret)

        with monkeypatch.context() as patch:
            patch.setattr(FakeCaptioner, "caption", fail)
            response = client.post("/caption", files=good)
        assert response.status_code == 500
        assert secret not in response.text
        assert response.json()["type"] == "/problems/internal-error"
        assert secret in caplog.text
        assert client.post("/caption", files=good).status_code == 200


def test_full_service_answers_503_with_retry_after(
    image_file: bytes, serve: Callable[..., Any]
) -> None:
    good = {"image": ("photo.jpg", image_file, "image/jpeg")}
    with (
        serve(fake_batch_seconds=0.3, max_batch_size=1, max_queue_size=1) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        responses = list(pool.map(lambda _: client.post("/caption", files=good), range(8)))
        statuses = {response.status_code for response in responses}
        assert statuses == {200, 503}
        refused = next(response for response in responses if response.status_code == 503)
        assert refused.json()["type"] == "/problems/queue-full"
        assert int(refused.headers["retry-after"]) >= 1
        assert client.post("/caption", files=good).status_code == 200


@pytest.mark.parametrize(
    "error", sorted(leaves(BusyError) | leaves(ModelUnavailableError), key=str)
)
def test_error_has_retry_after_where_waiting_helps_and_says_its_own_words(
    error: type[Exception],
) -> None:
    response = problem_response(error("No, because."))
    assert response.status_code == 503
    assert json.loads(bytes(response.body))["detail"] == "No, because."
    assert ("retry-after" in response.headers) == issubclass(error, BusyError)


def test_openapi_documents_only_problems_that_exist(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    slugs = {f"/problems/{kind.slug}": kind.status for kind in PROBLEMS.values()}
    for operation in (each for path in document["paths"].values() for each in path.values()):
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            for example in content.get("application/problem+json", {}).get("examples", {}).values():
                assert str(slugs[example["value"]["type"]]) == status
    assert json.dumps(document).count("/problems/body-too-large") == 4


def test_no_memory_to_decode_is_a_503_that_the_log_knows(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decoder_process, "_PROGRAM", "tests.unit.starved_worker")
    small, large = (_png(Image.new("RGBA", (side, side))) for side in (100, 5000))
    with serve() as client:
        answer = client.post("/caption", files={"image": ("photo.png", large)})
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/out-of-memory"
        assert answer.headers["Retry-After"]
        assert "out of memory while decoding" in caplog.text
        failures = 'glimpse_decode_failures_total{problem="out-of-memory"} 1.0'
        assert failures in client.get("/metrics").text
        assert client.post("/caption", files={"image": ("photo.png", small)}).status_code == 200


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()
