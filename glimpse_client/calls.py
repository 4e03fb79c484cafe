"""What each call sends and how its answer is read, the same for both clients. Opens no connection
and waits for nothing."""

import io
import math
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from glimpse_client.attempts import Attempts, parse_retry_after
from glimpse_client.errors import AnswerError, GlimpseError, UnreachableError, answer_error
from glimpse_client.images import ImageUrl
from glimpse_client.results import AttentionResult, CaptionResult, ModelDescription, ModelList

__all__ = [
    "LIMITS",
    "Address",
    "Call",
    "Options",
    "attention_call",
    "caption_call",
    "model_call",
    "models_call",
    "overlay_call",
    "transport_error",
]

Result = TypeVar("Result")

# The server closes a connection after 5 idle seconds: it is not used again shortly before.
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0)

_CONNECT_TIMEOUT_SECONDS = 5.0
_PNG = b"\x89PNG\r\n\x1a\n"


class Options(TypedDict, total=False):
    """The options of a caption; what is left out is the server's to choose.

    model: a name of `models()`.
    beam_size: how many captions the search keeps.
    num_captions: how many are given, best first; at most `beam_size`.
    max_length: most words.
    length_penalty: 0 ranks captions by their probability, 1 by that of a word on average.
    include: `objects` for what was found in the picture beside.
    """

    model: str
    beam_size: int
    num_captions: int
    max_length: int
    length_penalty: float
    include: str


class Address:
    """Where the server is, and the key that it wants."""

    def __init__(self, url: str, api_key: str | None) -> None:
        """Take them. Raises ValueError where the URL is none of a server."""
        try:
            parsed = httpx.URL(url.strip().rstrip("/"))
        except httpx.InvalidURL as error:
            raise ValueError(f"The server's URL cannot be read: {error}") from None
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query:
            raise ValueError(
                "The server's URL is its address alone, such as http://localhost:8000, but is "
                f"'{url}'."
            )
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("The API key has letters that no key has.")
        self.url = str(parsed)
        self.headers = {"X-API-Key": api_key} if api_key else {}


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """One request and how its answer is read.

    image: what is sent, for calls that send one.
    read: makes the result of an answer's body; raises ValueError where it is none.
    """

    method: str
    path: str
    read: Callable[[bytes], Result]
    options: Mapping[str, str] = field(default_factory=dict)
    accept: str = "application/json"
    image: bytes | ImageUrl | None = None

    def request(self, address: Address, attempts: Attempts) -> dict[str, Any]:
        """Give the arguments of httpx's `build_request` for the next attempt.

        Raises TimedOutError where there is no time for one.
        """
        left = attempts.seconds_left()
        headers = address.headers | {"Accept": self.accept}
        arguments: dict[str, Any] = {"params": dict(self.options)}
        if self.image is not None:
            # Rounded up: 0 is no time that a server takes.
            headers["X-Request-Timeout-Seconds"] = f"{math.ceil(left * 1000) / 1000:.3f}"
        if isinstance(self.image, ImageUrl):
            arguments["json"] = {"url": self.image.url}
        elif self.image is not None:
            part = _Upload(self.image, attempts)
            arguments["files"] = {"image": ("image", part, "application/octet-stream")}
        return arguments | {
            "method": self.method,
            "url": address.url + self.path,
            "headers": headers,
            "timeout": httpx.Timeout(left, connect=min(left, _CONNECT_TIMEOUT_SECONDS)),
        }

    def result(self, response: httpx.Response, body: bytes) -> Result:
        """Read an answer. Raises a ProblemError or an AnswerError."""
        retry_after_seconds = parse_retry_after(response.headers.get("Retry-After"))
        status = response.status_code
        if response.is_redirect:
            target = response.headers.get("Location", "nowhere")
            raise AnswerError(
                f"The server leads to {target}, where no key is sent. Give the client the URL that "
                "answers.",
                status=status,
            )
        if status != HTTPStatus.OK:
            raise answer_error(status, body, retry_after_seconds)
        try:
            return self.read(body)
        except ValueError as error:
            what = _first_fault(error)
            raise AnswerError(
                f"The answer of {self.path} is none of Glimpse's: {what}", status=status
            ) from error


class _Upload(io.BytesIO):
    """An image as it is sent, in pieces, no longer than its call may take."""

    def __init__(self, image: bytes, attempts: Attempts) -> None:
        super().__init__(image)
        self._attempts = attempts

    def read(self, size: int | None = -1, /) -> bytes:
        """Read the next piece. Raises TimedOutError."""
        self._attempts.seconds_left()
        return super().read(size)


def caption_call(image: bytes | ImageUrl, options: Options) -> Call[CaptionResult]:
    """Ask for captions."""
    read = _reader(CaptionResult)
    return Call("POST", "/caption", read, options=_texts(options), image=image)


def attention_call(image: bytes | ImageUrl, options: Options) -> Call[AttentionResult]:
    """Ask for a caption and its maps."""
    read = _reader(AttentionResult)
    return Call("POST", "/attention", read, options=_texts(options), image=image)


def overlay_call(image: bytes | ImageUrl, word: int | None, options: Options) -> Call[bytes]:
    """Ask for the maps drawn over the picture."""
    asked = {"format": "png"} | _texts(options)
    if word is not None:
        asked["word"] = str(word)
    accept = "image/png, application/problem+json"
    return Call("POST", "/attention", _read_png, options=asked, accept=accept, image=image)


def models_call() -> Call[tuple[ModelDescription, ...]]:
    """Ask which models there are."""
    read = _reader(ModelList)
    return Call("GET", "/models", lambda body: read(body).models)


def model_call(name: str) -> Call[ModelDescription]:
    """Ask what is known of one model."""
    return Call("GET", f"/models/{quote(name, safe='')}", _reader(ModelDescription))


def transport_error(error: httpx.HTTPError, address: Address, attempts: Attempts) -> GlimpseError:
    """Make the error of an attempt that brought no answer."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return attempts.timed_out()  # each of the others was given all the time that was left
    causes = list(_causes(error))
    is_temporary = not any(map(_is_lasting, causes))
    what = str(causes[-1]) or type(error).__name__
    return UnreachableError(
        f"{httpx.URL(address.url).netloc.decode()} cannot be reached: {what}",
        is_temporary=is_temporary,
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _is_lasting(error: BaseException) -> bool:
    """Tell what no other attempt mends: a certificate, or a name that is not known."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    return isinstance(error, ssl.SSLCertVerificationError)


def _texts(options: Options) -> dict[str, str]:
    return {name: str(value) for name, value in options.items() if value is not None}


Model = TypeVar("Model", bound=BaseModel)


def _reader(kind: type[Model]) -> Callable[[bytes], Model]:
    return kind.model_validate_json


def _read_png(body: bytes) -> bytes:
    if not body.startswith(_PNG):
        raise ValueError("it is no PNG")
    return body


def _first_fault(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, fault["loc"])) or "the body"
    return f"{place}: {fault['msg']}"
