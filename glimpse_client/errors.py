"""Every error of the client, and which problem document becomes which. Knows no HTTP library.

    GlimpseError
    ├── UnreachableError            no connection, or one that broke
    ├── TimedOutError               no answer within the time that was given
    ├── AnswerError                 an answer that is not Glimpse's: of a proxy, or of another site
    └── ProblemError                Glimpse says what is wrong, in a problem document (RFC 9457)
        ├── ImageRefusedError       the picture cannot be read, or is too large or too small
        ├── UrlRefusedError         there is no picture to be had by the URL, or none is fetched
        ├── InvalidOptionError      an option is unknown or out of its bounds
        ├── UnknownModelError       there is no such model
        ├── ModelUnavailableError   the model is there but does not work, nor soon
        ├── AccessRefusedError      no key that is good, or not under this name
        ├── RateLimitedError        as many requests as may be were sent
        ├── BusyError               not now: the same request may work a moment later
        └── ServerFaultError        the service is at fault

A file that cannot be read stays Python's own OSError, and an image of a wrong type a TypeError.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

__all__ = [
    "AccessRefusedError",
    "AnswerError",
    "BusyError",
    "GlimpseError",
    "ImageRefusedError",
    "InvalidOptionError",
    "ModelUnavailableError",
    "ProblemError",
    "RateLimitedError",
    "ServerFaultError",
    "TimedOutError",
    "UnknownModelError",
    "UnreachableError",
    "UrlRefusedError",
    "WrongOption",
    "answer_error",
]

_GATEWAY_TROUBLE = frozenset({429, 502, 503, 504})
_SHOWN_LETTERS = 200


class GlimpseError(Exception):
    """Base class of all errors of the client.

    is_temporary: whether the same request may work a moment later.
    retry_after_seconds: when, as the server said; None where it did not.
    """

    is_temporary: bool = False
    retry_after_seconds: float | None = None


class UnreachableError(GlimpseError):
    """There is no connection to the server, or it broke before the answer."""

    def __init__(self, message: str, *, is_temporary: bool = True) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary


class TimedOutError(GlimpseError, TimeoutError):
    """The answer did not come within the time that was given."""


class AnswerError(GlimpseError):
    """The answer is none of Glimpse's: a page of a proxy, or of another site."""

    def __init__(
        self, message: str, *, status: int, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.is_temporary = status in _GATEWAY_TROUBLE


@dataclass(frozen=True, slots=True)
class WrongOption:
    """One option that the server does not take, and why."""

    option: str
    message: str


class ProblemError(GlimpseError):
    """The server's own words about what is wrong, and what would be right.

    type: the kind of problem, an address that the server answers.
    slug: the last part of the type, such as `queue-full`; empty where there is none.
    instance: the request's id, under which the server's log has more; None where it says none.
    wrong_options: each option that cannot be used.
    """

    def __init__(
        self,
        *,
        type: str,
        title: str,
        status: int,
        detail: str,
        instance: str | None = None,
        wrong_options: tuple[WrongOption, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.type = type
        self.slug = slug_of(type)
        self.title = title
        self.status = status
        self.detail = detail
        self.instance = instance
        self.wrong_options = wrong_options
        self.retry_after_seconds = retry_after_seconds


class ImageRefusedError(ProblemError):
    """The picture cannot be read, is damaged, or is too large or too small."""


class UrlRefusedError(ProblemError):
    """There is no picture to be had by the URL, or the server fetches none."""


class InvalidOptionError(ProblemError):
    """An option is unknown or out of its bounds; `wrong_options` has each."""


class UnknownModelError(ProblemError):
    """The server has no model of that name; the message lists those that it has."""


class ModelUnavailableError(ProblemError):
    """The model is there but does not work, nor will soon; other models may."""


class AccessRefusedError(ProblemError):
    """The server wants a key that is good, or is not known under this name."""


class RateLimitedError(ProblemError):
    """As many requests as may be were sent; `retry_after_seconds` says when there are more."""

    is_temporary = True


class BusyError(ProblemError):
    """The server cannot answer now; the same request may work a moment later."""

    is_temporary = True


class ServerFaultError(ProblemError):
    """The service is at fault; its log has more, under `instance`."""


_BY_SLUG: Mapping[str, type[ProblemError]] = {
    "jobs-off": ProblemError,  # 403, but whoever asks
    **dict.fromkeys(
        (
            "body-too-large",
            "damaged-image",
            "empty-image",
            "image-too-small",
            "slow-image",
            "too-many-pixels",
            "undecodable-image",
            "unreadable-image",
            "unusable-image",
        ),
        ImageRefusedError,
    ),
    **dict.fromkeys(
        (
            "unusable-url",
            "url-fetching-off",
            "url-not-an-image",
            "url-refused",
            "url-status",
            "url-too-large",
            "url-too-slow",
            "url-unreachable",
        ),
        UrlRefusedError,
    ),
    "invalid-option": InvalidOptionError,
    "model-unavailable": ModelUnavailableError,
    "unknown-model": UnknownModelError,
}


def slug_of(type: str) -> str:
    """Take the last part of a problem's type; empty where it says nothing but the status."""
    return type.rpartition("/")[2] if "/problems/" in type else ""


def answer_error(status: int, body: bytes, retry_after_seconds: float | None) -> GlimpseError:
    """Make the error of an answer that is not 200: a ProblemError if it is a problem document."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("type"), str):
        return _problem(document, status, retry_after_seconds)
    text = body.decode("utf-8", errors="replace").strip()[:_SHOWN_LETTERS]
    shown = f": {text}" if text else ", and nothing more"
    return AnswerError(
        f"The answer is {status}, but no problem document of Glimpse's{shown}",
        status=status,
        retry_after_seconds=retry_after_seconds,
    )


def _problem(
    document: Mapping[str, object], status: int, retry_after_seconds: float | None
) -> ProblemError:
    type_ = str(document["type"])
    kind = _BY_SLUG.get(slug_of(type_)) or _by_status(status, retry_after_seconds)
    errors = document.get("errors")
    instance = document.get("instance")
    return kind(
        type=type_,
        title=str(document.get("title") or ""),
        status=status,
        detail=str(document.get("detail") or ""),
        instance=None if instance is None else str(instance),
        wrong_options=tuple(map(_wrong_option, errors)) if isinstance(errors, list) else (),
        retry_after_seconds=retry_after_seconds,
    )


def _wrong_option(value: object) -> WrongOption:
    members = value if isinstance(value, dict) else {}
    return WrongOption(str(members.get("option", "")), str(members.get("message", value)))


def _by_status(status: int, retry_after_seconds: float | None) -> type[ProblemError]:
    """Choose the class of a problem whose slug has none, also of one that is not known yet."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.MISDIRECTED_REQUEST):
        return AccessRefusedError
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError
    if status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after_seconds is not None:
        return BusyError
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerFaultError
    return ProblemError
