"""From exception to answer: the table that maps errors to statuses, and RFC 9457 problems.

A problem's `type` is a stable address, `/problems/<slug>`; this service answers there what it
means. Its `detail` is the exception's own text if the client or the load is at fault, and never if
the service is.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.api.options import describe_invalid_options
from app.api.schemas import Problem, WrongOption
from app.core import errors as service
from app.core.logging import request_id_context
from app.core.settings import DEFAULT_MODEL
from models import errors as library

__all__ = [
    "INTERNAL",
    "PROBLEMS",
    "ProblemKind",
    "kind_of",
    "problem_response",
    "register_error_handlers",
]

_logger = logging.getLogger(__name__)
_RETRY_AFTER_SECONDS = 2


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One kind of problem: `slug` ends its type, and `example` is a detail as a client reads it."""

    status: int
    slug: str
    title: str
    example: str

    @property
    def type(self) -> str:
        """The problem's stable address, or RFC 9457's word for "just the status"."""
        return f"/problems/{self.slug}" if self.slug else "about:blank"


INTERNAL = ProblemKind(
    500,
    "internal-error",
    "The service failed",
    "Something went wrong inside the service. Its log has the details under this request's id.",
)
_IMAGE = ProblemKind(
    422, "unusable-image", "The picture cannot be used", "The picture cannot be used."
)
_OPTION = ProblemKind(
    422,
    "invalid-option",
    "An option is out of its bounds",
    "beam_size must be 1 to 20, but is '0' (input should be greater than or equal to 1).",
)
_REQUEST = ProblemKind(
    400, "bad-request", "The request cannot be understood", "The request cannot be understood."
)
_BUSY = ProblemKind(503, "busy", "The service cannot answer now", "The service cannot answer now.")
_GONE = ProblemKind(
    499, "client-gone", "The client hung up", "The client hung up before its answer was ready."
)
_NOT_FOUND = ProblemKind(
    404, "not-found", "There is nothing here", "There is nothing at /captions. See /docs."
)
_WRONG_METHOD = ProblemKind(
    405,
    "method-not-allowed",
    "This address does not answer that method",
    "GET is not answered at /caption; POST is. See /docs.",
)

PROBLEMS: Mapping[type[Exception], ProblemKind] = {
    library.EmptyImageError: ProblemKind(
        400,
        "empty-image",
        "The picture is empty",
        "The picture is empty (0 bytes). Send the bytes of a picture file.",
    ),
    library.UnreadableImageError: ProblemKind(
        415,
        "unreadable-image",
        "The file is no picture that can be read",
        "The file is not a picture that can be read. Accepted formats: JPEG, PNG, WebP, GIF, BMP, "
        "TIFF, AVIF, HEIC.",
    ),
    library.TruncatedImageError: ProblemKind(
        422,
        "damaged-image",
        "The picture is damaged",
        "The JPEG file ends early, is damaged, or is of a rare kind that cannot be read. Send the "
        "complete file, or save it again as JPEG or PNG.",
    ),
    library.ImageTooLargeError: ProblemKind(
        413,
        "too-many-pixels",
        "The picture has too many pixels",
        "The picture is 20000 x 10000 pixels (200 megapixels); at most 50 megapixels are "
        "accepted. Send a smaller copy.",
    ),
    library.ImageTooSmallError: ProblemKind(
        422,
        "image-too-small",
        "The picture is too small",
        "The picture is 1 x 1 pixels; each side must have at least 16.",
    ),
    library.ImageError: _IMAGE,
    library.OptionsError: _OPTION,
    library.UnknownModelError: ProblemKind(
        404,
        "unknown-model",
        "There is no such model",
        f"There is no model named 'nonesuch'. Models: {DEFAULT_MODEL}.",
    ),
    library.ConfigError: INTERNAL,
    library.CheckpointError: INTERNAL,
    library.GlimpseError: INTERNAL,
    service.NotMultipartError: ProblemKind(
        415,
        "not-a-form",
        "The body is not a multipart form",
        "The picture is expected in a multipart form, but the body is 'image/jpeg'. For example: "
        "curl -F image=@photo.jpg http://localhost:8000/caption",
    ),
    service.MalformedFormError: ProblemKind(
        400,
        "malformed-form",
        "The multipart form cannot be read",
        "The multipart form cannot be read: Missing boundary in multipart.",
    ),
    service.MissingImageError: ProblemKind(
        400,
        "missing-image",
        "There is no picture in the request",
        "The form has no field named 'image'. For example: curl -F image=@photo.jpg "
        "http://localhost:8000/caption",
    ),
    service.ImageNotAFileError: ProblemKind(
        400,
        "image-not-a-file",
        "The picture came as text",
        "The field 'image' holds text, not a file. With curl, put @ before the path: -F "
        "image=@photo.jpg",
    ),
    service.UnexpectedFieldError: ProblemKind(
        400,
        "unexpected-field",
        "The form has an unknown field",
        "The form has an unknown field 'file'. The picture is expected in a field named 'image'.",
    ),
    service.RepeatedFieldError: ProblemKind(
        400,
        "repeated-field",
        "The form has a field twice",
        "The form has the field 'image' 2 times. Send one picture in a request.",
    ),
    service.BodyTooLargeError: ProblemKind(
        413,
        "body-too-large",
        "The request is too large",
        "The request is 50000000 bytes; at most 20000000 are accepted. Send a smaller copy of the "
        "picture.",
    ),
    service.BodyTimeoutError: ProblemKind(
        408,
        "body-too-slow",
        "The request arrived too slowly",
        "Nothing of the request's body arrived for 10 seconds.",
    ),
    service.ClientGoneError: _GONE,
    ClientDisconnect: _GONE,
    service.RequestError: _REQUEST,
    service.NotReadyError: ProblemKind(
        503,
        "not-ready",
        "The model is not ready",
        "The model is warming up. Try again in a few seconds.",
    ),
    service.ModelUnavailableError: ProblemKind(
        503,
        "model-unavailable",
        "The model cannot be used",
        "The model 'nic' does not work; the operator finds the reason in the service's log. Other "
        "models are not touched by it.",
    ),
    service.ModelsMemoryFullError: ProblemKind(
        503,
        "models-memory-full",
        "There is no memory for the model now",
        "There is no memory for the model 'nic' while others are in use. Try again in a few "
        "seconds.",
    ),
    service.QueueFullError: ProblemKind(
        503,
        "queue-full",
        "The service is busy",
        "128 pictures wait already. Try again in a few seconds.",
    ),
    service.TooManyUploadsError: ProblemKind(
        503,
        "too-many-uploads",
        "The service is busy",
        "64 uploads are being answered already. Try again in a few seconds.",
    ),
    service.RequestTimeoutError: ProblemKind(
        503,
        "timed-out",
        "The answer took too long",
        "No answer within 30 seconds. Try again later, or send a smaller picture.",
    ),
    library.OutOfMemoryError: ProblemKind(
        503,
        "out-of-memory",
        "There is no memory for the picture now",
        "There is no memory to decode the picture now. Try again in a few seconds, or send a "
        "smaller copy.",
    ),
    service.StoppingError: ProblemKind(
        503,
        "stopping",
        "The service is shutting down",
        "The service is shutting down. Try again in a few seconds.",
    ),
    service.BusyError: _BUSY,
    service.SettingsError: INTERNAL,
    service.BatchFailedError: INTERNAL,
    service.CanaryError: INTERNAL,
    service.InternalError: INTERNAL,
    service.ServiceError: INTERNAL,
    RequestValidationError: _OPTION,
}
"""Every error, and how it is answered. A subclass without a line takes that of its base."""

HTTP_PROBLEMS: Mapping[int, ProblemKind] = {404: _NOT_FOUND, 405: _WRONG_METHOD}
"""The router's own errors, by status."""

# Those with status 503 whose text a client may read.
_EXPLAINED = (service.BusyError, service.ModelUnavailableError, library.OutOfMemoryError)


def kind_of(error: BaseException) -> ProblemKind:
    """Find the problem that an exception is; `INTERNAL` for what was not foreseen."""
    return next((PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS), INTERNAL)


def problem_response(error: Exception) -> JSONResponse:
    """Answer a request that failed with this error; log it if the service is at fault."""
    kind = kind_of(error)
    is_explained = isinstance(error, _EXPLAINED)
    if isinstance(error, library.OutOfMemoryError):
        _logger.warning("out of memory while decoding", exc_info=error)
    if kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not is_explained:
        _logger.error("a request failed", exc_info=error)
        return _respond(kind, kind.example)
    detail = str(error) or kind.example
    wrong = None
    if isinstance(error, RequestValidationError):
        wrong = describe_invalid_options(error.errors())
        detail = " ".join(each.message for each in wrong) or detail
    headers = None
    if isinstance(error, service.BusyError | library.OutOfMemoryError):
        headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
    return _respond(kind, detail, wrong=wrong, headers=headers)


def register_error_handlers(app: FastAPI) -> None:
    """Answer every foreseen error, the router's own too, with a problem document."""
    for error_class in PROBLEMS:
        app.add_exception_handler(error_class, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)


async def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    return problem_response(error)


async def _answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Say the router's own 404 and 405 in words."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    allow = (error.headers or {}).get("Allow", "GET")
    details = {
        404: f"There is nothing at {path}. See /docs.",
        405: f"{request.method} is not answered at {path}; {allow} is. See /docs.",
    }
    fallback = ProblemKind(
        error.status_code, "", HTTPStatus(error.status_code).phrase, error.detail
    )
    kind = HTTP_PROBLEMS.get(error.status_code, fallback)
    return _respond(kind, details.get(error.status_code, kind.example), headers=error.headers)


def _respond(
    kind: ProblemKind,
    detail: str,
    *,
    wrong: list[WrongOption] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    request_id = request_id_context.get()
    problem = Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=f"urn:request:{request_id}" if request_id else None,
        errors=wrong,
    )
    content: dict[str, Any] = problem.model_dump(exclude_none=True)
    return JSONResponse(
        content, kind.status, dict(headers or {}), media_type="application/problem+json"
    )
