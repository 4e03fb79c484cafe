"""The Python client, sync and async, against the real server, and against a small one where only a
script can say what comes."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from app.core.keys import add_key
from glimpse_client import (
    AccessRefusedError,
    AnswerError,
    AsyncClient,
    BusyError,
    CaptionResult,
    Client,
    ImageRefusedError,
    InvalidOptionError,
    ProblemError,
    RateLimitedError,
    TimedOutError,
    UnknownModelError,
    UnreachableError,
    UrlRefusedError,
)
from tests.e2e.scripted_server import Reply, Scripted, scripted
from tests.e2e.server import Server, serving

pytestmark = pytest.mark.e2e

BUSY = b'{"type": "/problems/queue-full", "title": "Busy", "status": 503, "detail": "Later."}'
RATED = b'{"type": "/problems/too-many-requests", "title": "", "status": 429, "detail": "Later."}'
DAMAGED = b'{"type": "/problems/damaged-image", "title": "", "status": 422, "detail": "Cut."}'


class Waiting:
    """The asynchronous client, called as the other is: all of its calls in one event loop."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*arguments, **options)

    def __enter__(self) -> "Waiting":
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))


@pytest.fixture(params=[Client, Waiting], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Any:
    """What makes a client."""
    return request.param


@pytest.fixture(scope="module")
def good(repository: Path) -> Reply:
    examples = json.loads((repository / "app/web/examples.json").read_text(encoding="utf-8"))
    return Reply(200, json.dumps(examples["caption"]).encode())


@pytest.fixture(scope="module")
def web(png: bytes) -> Iterator[Scripted]:
    """A web server that has one picture."""
    with scripted(Reply(200, png, (("Content-Type", "image/png"),))) as web:
        yield web


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, web: Scripted
) -> Iterator[Server]:
    """One that fetches, from this machine too, and takes small pictures alone."""
    with serving(
        tmp_path_factory.mktemp("client"),
        repository,
        max_upload_bytes=200_000,
        fetch_urls="true",
        fetch_private_networks="127.0.0.1/32",
        fetch_ports=f"80,443,{web.url.rpartition(':')[2]}",
    ) as server:
        yield server


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


# -- the real server ----


def test_caption_is_that_of_the_server_however_the_image_is_given(
    server: Server, connect: Any, png: bytes, tmp_path: Path
) -> None:
    expected = server.caption(png)[1]["caption"]
    path = tmp_path / "photo.png"
    path.write_bytes(png)
    with connect(url_of(server)) as client:
        for image in (path, str(path), png, Image.open(path)):
            result = client.caption(image)
            assert result.caption == result.captions[0].text == expected
            assert (result.image.width, result.image.height) == (40, 30)
        result = client.caption(png, num_captions=3, beam_size=4, length_penalty=0.5, max_length=9)
        assert len(result.captions) == 3
        assert [word.word for word in result.captions[0].words] == expected.split()
        assert result.model.name == client.models()[0].name


def test_caption_of_an_image_of_pil_is_turned_as_its_file_would_be(server: Server) -> None:
    image = Image.new("RGB", (40, 30), (200, 30, 30))
    image.getexif()[0x0112] = 6
    file = BytesIO()
    image.save(file, format="JPEG", exif=image.getexif())
    with Client(url_of(server)) as client:
        found = [client.caption(each).image for each in (image, Image.open(file), file.getvalue())]
    assert [(each.width, each.height) for each in found] == [(30, 40)] * 3


def test_attention_and_overlay_show_where_the_model_looked(
    server: Server, connect: Any, png: bytes
) -> None:
    with connect(url_of(server)) as client:
        result = client.attention(png)
        whole = Image.open(BytesIO(client.overlay(png)))
        one = Image.open(BytesIO(client.overlay(png, word=1)))
    assert " ".join(word.word for word in result.words) == result.caption
    for word in result.words:
        assert (len(word.alpha), len(word.alpha[0])) == (result.grid.rows, result.grid.columns)
        assert sum(map(sum, word.alpha)) == pytest.approx(1, abs=1e-3)
    assert (whole.format, one.format) == ("PNG", "PNG")
    assert one.size[0] * one.size[1] < whole.size[0] * whole.size[1]


def test_models_are_described(server: Server, connect: Any) -> None:
    with connect(url_of(server)) as client:
        (model,) = client.models()
        assert client.model(model.name) == model
        with pytest.raises(UnknownModelError, match=r"no model named 'none such\?'"):
            client.model("none such?")
    assert model.default
    assert model.config
    assert model.config["encoder"] == "fake"


def test_url_is_fetched_by_the_server(
    server: Server, web: Scripted, connect: Any, png: bytes
) -> None:
    with connect(url_of(server)) as client:
        assert client.caption(f"{web.url}/photo.png").captions == client.caption(png).captions
        with pytest.raises(UrlRefusedError) as caught:
            client.caption("http://127.0.0.2/photo.png")
    assert caught.value.slug == "url-refused"


def test_problem_is_an_error_with_all_that_the_server_says(
    server: Server, connect: Any, png: bytes
) -> None:
    with connect(url_of(server)) as client:
        with pytest.raises(InvalidOptionError, match="beam_size must be 1 to 20") as option:
            client.caption(png, beam_size=0)
        with pytest.raises(ImageRefusedError, match="not a picture that can be read") as image:
            client.caption(b"no picture at all")
        with pytest.raises(ImageRefusedError, match="at most 200000 are accepted") as large:
            client.caption(bytes(3_000_000))
        with pytest.raises(UnknownModelError, match="Models: "):
            client.caption(png, model="nonesuch")
        assert client.caption(png).caption
    assert [each.option for each in option.value.wrong_options] == ["beam_size"]
    assert (image.value.status, image.value.slug) == (415, "unreadable-image")
    assert image.value.instance is not None
    assert image.value.instance.startswith("urn:request:")
    assert large.value.slug == "body-too-large"


def test_server_that_is_overloaded_answers_everybody_in_the_end(
    tmp_path: Path, repository: Path, png: bytes
) -> None:
    settings = {"fake_batch_seconds": 0.5, "max_batch_size": 1, "max_queue_size": 1}
    with serving(tmp_path, repository, **settings) as server:
        with ThreadPoolExecutor(4) as pool, Client(url_of(server), retries=20) as client:
            results = list(pool.map(client.caption, [png] * 4))
        refused = server.metric('glimpse_refused_total{reason="queue-full"}')

        async def all_at_once() -> list[CaptionResult]:
            async with AsyncClient(url_of(server), retries=20) as client:
                return await asyncio.gather(*(client.caption(png) for _ in range(4)))

        results += asyncio.run(all_at_once())
        assert 0 < refused < server.metric('glimpse_refused_total{reason="queue-full"}')
        with Client(url_of(server), timeout_seconds=0.1) as client, pytest.raises(TimedOutError):
            client.caption(png)
    assert len({result.caption for result in results}) == 1
    assert len(results) == 8


def test_key_opens_the_server_and_its_limit_is_told(
    tmp_path: Path, repository: Path, png: bytes
) -> None:
    path = tmp_path / "keys.json"
    keys = [add_key(path, name, now=datetime.now(UTC), requests_per_day=2) for name in "ab"]
    with serving(tmp_path, repository, keys_file=path) as server:
        for kind, key in zip((Client, Waiting), keys, strict=True):
            for wrong in (None, key[:-1] + "x"):
                with (
                    kind(url_of(server), wrong) as client,
                    pytest.raises(AccessRefusedError, match="needs an API key"),
                ):
                    client.caption(png)
            with kind(url_of(server), key, retries=0) as client:
                assert client.caption(png).caption
                assert client.models()
                with pytest.raises(RateLimitedError, match="2 requests a day") as caught:
                    client.caption(png)
            assert caught.value.retry_after_seconds


# -- a server with a script ----


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [(Client, 503, BUSY), (Waiting, 429, RATED)],
    ids=["sync-503", "async-429"],
)
def test_retry_comes_no_sooner_than_the_server_said(
    kind: Any, png: bytes, good: Reply, status: int, body: bytes
) -> None:
    later = Reply(status, body, (("Retry-After", "1"),))
    with scripted(later, good) as server, kind(server.url) as client:
        assert client.caption(png).caption == "a close up of a cat"
    first, second = server.seen
    assert second.at_seconds - first.at_seconds >= 1
    assert first.body.count(png) == second.body.count(png) == 1
    told = [float(each.headers["x-request-timeout-seconds"]) for each in server.seen]
    assert 0 < told[1] <= told[0] - 1 < told[0] <= 60


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(422, DAMAGED), ImageRefusedError),
        (Reply(422, DAMAGED, (("Retry-After", "1"),)), ImageRefusedError),
        (Reply(429, RATED, (("Retry-After", "3600"),)), RateLimitedError),
        (Reply(503, BUSY, (("Retry-After", "61"),)), BusyError),
        (Reply(404, b"<h1>Not here</h1>"), AnswerError),
        (Reply(200, b"<h1>Welcome</h1>"), AnswerError),
        (Reply(200, b'{"caption": "a cat"}'), AnswerError),
        (Reply(302, b"", (("Location", "http://127.0.0.1:9/caption"),)), AnswerError),
    ],
    ids=["damaged", "damaged-later", "rated", "busy", "page", "welcome", "other", "redirect"],
)
def test_what_cannot_succeed_in_time_is_asked_once(
    connect: Any, png: bytes, reply: Reply, error: type[Exception]
) -> None:
    with (
        scripted(reply) as server,
        connect(server.url, "a-key") as client,
        pytest.raises(error) as caught,
    ):
        client.caption(png)
    assert [each.headers["x-api-key"] for each in server.seen] == ["a-key"]
    assert "a-key" not in f"{caught.value!r} {caught.value}"


def test_overlay_that_is_no_drawing_is_told(connect: Any, png: bytes, good: Reply) -> None:
    with (
        scripted(good) as server,
        connect(server.url) as client,
        pytest.raises(AnswerError, match="it is no PNG"),
    ):
        client.overlay(png)


def test_broken_connections_and_a_proxys_errors_are_tried_again(
    connect: Any, png: bytes, good: Reply
) -> None:
    page = Reply(502, b"<h1>Bad gateway</h1>")
    with scripted(Reply(0), page, good) as server, connect(server.url) as client:
        assert client.caption(png).caption
    assert len(server.seen) == 3


def test_retries_end_with_what_the_server_said_last(connect: Any, png: bytes) -> None:
    with (
        scripted(Reply(503, BUSY, (("Retry-After", "0"),))) as server,
        connect(server.url, retries=2) as client,
        pytest.raises(BusyError, match=r"Later\."),
    ):
        client.caption(png)
    assert len(server.seen) == 3


def test_connection_is_used_again_also_after_a_problem(
    connect: Any, png: bytes, good: Reply
) -> None:
    with scripted(good, Reply(422, DAMAGED), good) as server, connect(server.url) as client:
        client.caption(png)
        with pytest.raises(ProblemError):
            client.caption(png)
        client.caption(png)
    assert (len(server.seen), server.connections) == (3, 1)


@pytest.mark.parametrize("way", ["hold", "dribble"])
def test_server_that_never_finishes_its_answer_is_left_in_time(
    connect: Any, png: bytes, good: Reply, way: str
) -> None:
    with scripted(good) as server, connect(f"{server.url}/{way}", timeout_seconds=0.3) as client:
        with pytest.raises(TimedOutError, match=r"within 0\.3 seconds"):
            client.caption(png)
        with pytest.raises(TimedOutError, match=r"within 0\.2 seconds"):
            client.caption(png, timeout_seconds=0.2)
    assert len(server.seen) == 2


def test_server_that_takes_no_body_is_left_in_time(connect: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with connect(url, timeout_seconds=0.3) as client, pytest.raises(TimedOutError):
            client.caption(bytes(50_000_000))


def test_server_that_is_not_there_is_told_with_its_address(connect: Any, png: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = f"127.0.0.1:{port} cannot be reached: .*[Cc]onn"
    with (
        connect(f"http://127.0.0.1:{port}", retries=1) as client,
        pytest.raises(UnreachableError, match=said),
    ):
        client.caption(png)


def test_server_whose_name_is_not_known_is_asked_once(connect: Any, png: bytes) -> None:
    with (
        connect("http://nonesuch.invalid") as client,
        pytest.raises(UnreachableError, match="cannot be reached") as caught,
    ):
        client.caption(png)
    # A machine without a resolver cannot tell that there is no such name.
    assert not caught.value.is_temporary or "Temporary failure" in str(caught.value)


def test_client_of_httpx_that_was_given_stays_open(png: bytes, good: Reply) -> None:
    with scripted(good) as server, httpx.Client(headers={"X-Ours": "yes"}) as http:
        with Client(server.url, http=http) as client:
            client.caption(png)
        assert not http.is_closed
    assert server.seen[0].headers["x-ours"] == "yes"
