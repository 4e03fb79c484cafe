"""The parts of the client that send nothing: when it tries again, which error a problem becomes,
what is sent of an image."""

import json
import math
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel

import glimpse_client
from app.api import schemas
from app.api.options import CaptionOptions
from app.api.problem_kinds import HTTP_PROBLEMS, PROBLEMS
from app.core import errors as service
from glimpse_client import (
    AccessRefusedError,
    AnswerError,
    BusyError,
    GlimpseError,
    ImageRefusedError,
    InvalidOptionError,
    ModelUnavailableError,
    ProblemError,
    RateLimitedError,
    ServerFaultError,
    TimedOutError,
    UnknownModelError,
    UnreachableError,
    UrlRefusedError,
    results,
)
from glimpse_client.attempts import Attempts, parse_retry_after
from glimpse_client.calls import Address, Options
from glimpse_client.errors import answer_error
from glimpse_client.images import ImageUrl, read_image
from models import errors as library


class Clock:
    """Time as a test sets it, in seconds."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def attempts(clock: Clock, timeout_seconds: float = 60.0, retries: int = 5) -> Attempts:
    return Attempts(
        timeout_seconds=timeout_seconds, retries=retries, clock=clock, chance=lambda: 0.5
    )


def busy(retry_after_seconds: float | None) -> GlimpseError:
    body = b'{"type": "/problems/queue-full", "title": "busy", "status": 503, "detail": "later"}'
    return answer_error(503, body, retry_after_seconds)


# -- when ----


@given(st.floats(0, 3600), st.floats(0, 1))
def test_wait_is_as_long_as_the_server_said_and_little_longer(seconds: float, by: float) -> None:
    tried = Attempts(timeout_seconds=1e6, retries=1, clock=Clock(), chance=lambda: by)
    assert seconds <= tried.wait_after(busy(seconds)) <= max(seconds, 0.1) * 1.2


def test_wait_where_the_server_names_none_grows_to_a_limit() -> None:
    tried = attempts(Clock(), retries=20)
    waits = [tried.wait_after(UnreachableError("gone")) for _ in range(7)]
    assert waits == sorted(waits)
    assert waits[0] > 0
    assert waits[-1] == waits[-2] <= 8


def test_wait_that_would_outlast_the_call_is_not_begun() -> None:
    clock = Clock()
    tried = attempts(clock, timeout_seconds=10.0)
    assert tried.wait_after(busy(5)) < 10
    clock.now += 5.6
    late = busy(5)
    with pytest.raises(BusyError) as caught:
        tried.wait_after(late)
    assert caught.value is late


def test_attempts_end_after_as_many_retries_as_may_be() -> None:
    tried = attempts(Clock(), retries=2)
    for _ in range(2):
        tried.wait_after(UnreachableError("gone"))
    with pytest.raises(UnreachableError):
        tried.wait_after(UnreachableError("gone"))


@pytest.mark.parametrize(
    "error",
    [
        TimedOutError("late"),
        UnreachableError("no such name", is_temporary=False),
        AnswerError("a page", status=404),
        answer_error(422, b'{"type": "/problems/damaged-image", "detail": "cut"}', None),
        answer_error(500, b'{"type": "/problems/internal-error", "detail": "bug"}', None),
        answer_error(503, b'{"type": "/problems/model-unavailable", "detail": "broken"}', None),
        answer_error(401, b'{"type": "/problems/key-needed", "detail": "key"}', None),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_succeed_is_never_tried_again(error: GlimpseError) -> None:
    with pytest.raises(type(error)):
        attempts(Clock()).wait_after(error)


def test_server_that_ran_out_of_the_calls_time_is_told_as_a_timeout() -> None:
    late = answer_error(503, b'{"type": "/problems/timed-out", "detail": "late"}', 2.0)
    clock = Clock()
    tried = attempts(clock, timeout_seconds=3.0)
    clock.now += 2.9
    with pytest.raises(TimedOutError) as caught:
        tried.wait_after(late)
    assert caught.value.__cause__ is late
    assert attempts(Clock()).wait_after(late) >= 2


def test_seconds_left_are_over_at_the_end() -> None:
    clock = Clock()
    tried = attempts(clock, timeout_seconds=2.0)
    assert tried.seconds_left() == 2.0
    clock.now += 2.0
    with pytest.raises(TimedOutError, match="within 2 seconds"):
        tried.seconds_left()


@pytest.mark.parametrize(("timeout", "retries"), [(0.0, 1), (-1.0, 1), (math.nan, 1), (1.0, -1)])
def test_limits_that_cannot_be_are_refused(timeout: float, retries: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        Attempts(timeout_seconds=timeout, retries=retries)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Sat, 28 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 28 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("", None),
        ("٣", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(
    value: str | None, seconds: float | None
) -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert parse_retry_after(value, now) == seconds


@given(st.text())
def test_retry_after_never_breaks_a_call(text: str) -> None:
    found = parse_retry_after(text)
    assert found is None or found >= 0


# -- which error ----


def expected_class(error: type[Exception]) -> type[ProblemError]:
    """What the client makes of an error of the server."""
    if issubclass(error, library.ImageError | service.BodyTooLargeError):
        return ImageRefusedError
    if issubclass(error, service.UrlError):
        return UrlRefusedError
    if issubclass(error, service.BusyError | library.OutOfMemoryError):
        return BusyError
    special: dict[str, type[ProblemError]] = {
        "KeyNeededError": AccessRefusedError,
        "ForeignPageError": AccessRefusedError,
        "WrongHostError": AccessRefusedError,
        "TooManyRequestsError": RateLimitedError,
        "OptionsError": InvalidOptionError,
        "RequestValidationError": InvalidOptionError,
        "UnknownModelError": UnknownModelError,
        "ModelUnavailableError": ModelUnavailableError,
    }
    status = PROBLEMS[error].status
    return special.get(error.__name__, ServerFaultError if status >= 500 else ProblemError)


@pytest.mark.parametrize("error", PROBLEMS, ids=lambda error: error.__name__)
def test_problem_of_the_server_each_becomes_the_error_that_it_is(error: type[Exception]) -> None:
    kind = PROBLEMS[error]
    body = schemas.Problem(
        type=f"/behind/a/proxy{kind.type}", title=kind.title, status=kind.status, detail="why"
    ).model_dump_json()
    is_busy = issubclass(error, service.BusyError | library.OutOfMemoryError)
    made = answer_error(kind.status, body.encode(), 2.0 if is_busy else None)
    assert type(made) is expected_class(error)
    assert isinstance(made, ProblemError)
    assert (str(made), made.slug, made.title) == ("why", kind.slug, kind.title)
    assert made.is_temporary == (is_busy or kind.status == 429)


def test_problem_of_the_router_is_a_plain_one() -> None:
    for status, kind in HTTP_PROBLEMS.items():
        made = answer_error(status, f'{{"type": "{kind.type}"}}'.encode(), None)
        assert type(made) is ProblemError


@given(st.binary(), st.sampled_from([400, 404, 429, 500, 502, 503, 504]))
def test_answer_whatever_it_is_becomes_an_error(body: bytes, status: int) -> None:
    made = answer_error(status, body, None)
    assert isinstance(made, AnswerError)
    assert made.is_temporary == (status in (429, 502, 503, 504))
    assert len(str(made)) < 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["title", "detail", "instance", "errors"]), json_values))
def test_problem_document_of_odd_members_becomes_an_error(members: dict[str, Any]) -> None:
    document = members | {"type": "/problems/invalid-option"}
    assert type(answer_error(422, json.dumps(document).encode(), None)) is InvalidOptionError


# -- results ----


def shapes(module: Any) -> dict[str, set[str]]:
    return {
        name: set(kind.model_fields)
        for name in module.__all__
        if isinstance(kind := getattr(module, name), type) and issubclass(kind, BaseModel)
    }


def test_results_have_every_field_that_the_server_answers_with() -> None:
    ours, theirs = shapes(results), shapes(schemas)
    names = {"CaptionResult": "CaptionResponse", "AttentionResult": "AttentionResponse"}
    assert {names.get(name, name): fields for name, fields in ours.items()} == {
        name: theirs[name] for name in (names.get(each, each) for each in ours)
    }


def test_options_are_those_of_the_server() -> None:
    assert set(Options.__annotations__) == set(CaptionOptions.model_fields)


def test_results_pass_over_fields_that_a_later_server_adds() -> None:
    grown = {"name": "x", "digest": "0", "license": "new"}
    assert results.ModelName.model_validate(grown) == results.ModelName(name="x", digest="0")


def test_public_names_are_sorted_and_exist() -> None:
    assert glimpse_client.__all__ == sorted(glimpse_client.__all__)
    assert all(hasattr(glimpse_client, name) for name in glimpse_client.__all__)
    errors = {name for name in glimpse_client.__all__ if name.endswith("Error")}
    page = glimpse_client.errors.__doc__ or ""
    assert all(name in page for name in errors)


# -- what is sent ----


def opened(data: bytes | ImageUrl) -> Image.Image:
    assert isinstance(data, bytes)
    return Image.open(BytesIO(data))


def test_image_of_a_path_and_of_bytes_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"whatever it is")
    for image in (path, str(path), b"whatever it is", bytearray(b"whatever it is")):
        assert read_image(image) == b"whatever it is"
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "nothing.jpg")


def test_image_that_begins_as_a_url_is_one() -> None:
    for url in ("https://example.org/a.jpg", "HTTP://example.org/a.jpg"):
        assert read_image(url) == ImageUrl(url)


@pytest.mark.parametrize("image", [None, 7, ["a.jpg"], BytesIO(b"x")])
def test_image_of_another_kind_is_refused_with_a_sentence(image: Any) -> None:
    with pytest.raises(TypeError, match="An image is a path, a URL, bytes, or an image of PIL"):
        read_image(image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_image_of_pil_of_any_mode_is_sent_as_a_png_of_its_size(mode: str) -> None:
    image = Image.new(mode, (40, 30))
    sent = opened(read_image(image))
    assert (sent.format, sent.size) == ("PNG", (40, 30))


def test_image_of_pil_keeps_its_pixels_and_its_orientation() -> None:
    image = Image.effect_noise((40, 30), 50).convert("RGB")
    image.getexif()[0x0112] = 6
    sent = opened(read_image(image))
    assert sent.getexif()[0x0112] == 6
    assert sent.tobytes() == image.tobytes()


@pytest.mark.parametrize(("mode", "format"), [("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG")])
def test_image_of_pil_of_many_pixels_is_a_jpeg_unless_it_is_transparent(
    mode: str, format: str
) -> None:
    sent = opened(read_image(Image.new(mode, (2_001, 2_000))))
    assert (sent.format, sent.size) == (format, (2_001, 2_000))


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://a", "http://", "", "http://a/?x=1", "http://a\nb", "http://[::1"],
)
def test_address_that_is_no_servers_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match="server's URL"):
        Address(url, None)


def test_address_keeps_a_path_and_no_slash_at_its_end() -> None:
    address = Address(" https://example.org/captioner/ ", "gl_key")
    assert address.url == "https://example.org/captioner"
    with pytest.raises(ValueError, match="API key"):
        Address("http://a", "key\nwith a line")


@pytest.mark.parametrize("kind", [glimpse_client.Client, glimpse_client.AsyncClient])
def test_key_is_never_shown(kind: Any) -> None:
    assert repr(kind("http://a/", "gl_secret")) == f"{kind.__name__}('http://a')"
