"""From exception to answer: RFC 9457 problems, of the kinds that `app.api.problem_kinds` lists.

A problem's `type` is a stable address, `/problems/<slug>`; this service answers there what it
means. Its `detail` is the exception's own text if the client or the load is at fault, and never if
the service is.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.api.base_address import base_address_context
from app.api.options import describe_invalid_options
from app.api.problem_document import ProblemResponse
from app.api.problem_kinds import HTTP_PROBLEMS, PROBLEMS, ProblemKind, kind_of
from app.api.schemas import Problem, WrongOption
from app.core import errors as service
from app.core.logging import request_id_context
from models import errors as library

__all__ = [
    "DescribedProblem",
    "decode_problems",
    "describe_problem",
    "problem_reasons",
    "problem_response",
    "register_error_handlers",
]

_logger = logging.getLogger(__name__)
_MEMORY_RETRY_AFTER_SECONDS = 2


_OTHER_REASON = "other"  # a status of the framework's that has no slug

# Those with a status of 500 and above whose text a client may read.
_EXPLAINED = (
    service.BusyError,
    service.ModelUnavailableError,
    service.TransferEncodingError,
    library.OutOfMemoryError,
)

# What keeps an image from being decoded, whoever is at fault.
_NOT_DECODED = (
    library.ImageError,
    library.OutOfMemoryError,
    service.DecoderLostError,
    service.DecoderFailedError,
)


def problem_reasons() -> set[str]:
    """List how a problem may be counted: every slug, and `other`."""
    kinds = (*PROBLEMS.values(), *HTTP_PROBLEMS.values())
    return {kind.slug for kind in kinds} | {_OTHER_REASON}


def decode_problems() -> set[str]:
    """List the slugs of what may be wrong with an image as it is decoded."""
    return {kind.slug for error, kind in PROBLEMS.items() if issubclass(error, _NOT_DECODED)}


@dataclass(frozen=True, slots=True)
class DescribedProblem:
    """An error in the words of a client, and how it is counted.

    reason: one of `problem_reasons()`.
    is_image_problem: whether it is one of `decode_problems()`.
    """

    problem: Problem
    headers: Mapping[str, str]
    reason: str
    is_image_problem: bool


def describe_problem(error: Exception) -> DescribedProblem:
    """Say an error in the words of a client; log it if the service is at fault."""
    kind = kind_of(error)
    is_explained = isinstance(error, _EXPLAINED)
    if isinstance(error, library.OutOfMemoryError):
        _logger.warning("out of memory while decoding", exc_info=error)
    wrong = None
    if kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not is_explained:
        _logger.error("a request failed", exc_info=error)
        detail = kind.example
    elif isinstance(error, RequestValidationError):
        wrong = describe_invalid_options(error.errors())
        detail = " ".join(each.message for each in wrong) or str(error) or kind.example
    else:
        detail = str(error) or kind.example
    return DescribedProblem(
        _problem(kind, detail, wrong),
        _headers(error),
        kind.slug or _OTHER_REASON,
        isinstance(error, _NOT_DECODED),
    )


def problem_response(error: Exception) -> ProblemResponse:
    """Answer a request that failed with this error; log it if the service is at fault."""
    return _respond(describe_problem(error))


def _headers(error: Exception) -> Mapping[str, str]:
    """Give the headers that go with an error that is explained."""
    if isinstance(error, service.BusyError):
        return {"Retry-After": str(error.retry_after_seconds)}
    if isinstance(error, library.OutOfMemoryError):
        return {"Retry-After": str(_MEMORY_RETRY_AFTER_SECONDS)}
    if isinstance(error, service.TooManyRequestsError):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_seconds)))}
    if isinstance(error, service.KeyNeededError):
        return {"WWW-Authenticate": 'Bearer realm="glimpse"'}
    return {}


def register_error_handlers(app: FastAPI) -> None:
    """Answer every foreseen error, the router's own too, with a problem document."""
    for error_class in PROBLEMS:
        app.add_exception_handler(error_class, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)


async def _answer_error(_request: Request, error: Exception) -> ProblemResponse:
    return problem_response(error)


async def _answer_http_exception(request: Request, error: Exception) -> ProblemResponse:
    """Say the router's own 404 and 405 in words."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    root_path = base_address_context.get().root_path
    headers = dict(error.headers or {})
    allowed = _allowed(request) or headers.get("Allow", "GET")
    if "Allow" in headers:
        headers["Allow"] = allowed
    details = {
        404: f"There is nothing at {path}. See {root_path}/docs.",
        405: f"{request.method} is not answered at {path}; {allowed} is. See {root_path}/docs.",
    }
    fallback = ProblemKind(
        error.status_code, "", HTTPStatus(error.status_code).phrase, error.detail
    )
    kind = HTTP_PROBLEMS.get(error.status_code, fallback)
    detail = details.get(error.status_code, kind.example)
    reason = kind.slug or _OTHER_REASON
    return _respond(DescribedProblem(_problem(kind, detail), headers, reason, False))


def _allowed(request: Request) -> str:
    """List the methods that an address answers: the router names those of one route alone.

    Empty below a mount, where the address has been taken apart.
    """
    found = []
    for method in ("DELETE", "GET", "POST"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.append(method)
    return ", ".join(found)


def _problem(kind: ProblemKind, detail: str, wrong: list[WrongOption] | None = None) -> Problem:
    request_id = request_id_context.get()
    return Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=base_address_context.get().localize(detail),
        instance=f"urn:request:{request_id}" if request_id else None,
        errors=wrong,
    )


def _respond(described: DescribedProblem) -> ProblemResponse:
    content: dict[str, Any] = described.problem.model_dump(exclude_none=True)
    return ProblemResponse(
        content,
        described.problem.status,
        described.headers,
        reason=described.reason,
        is_image_problem=described.is_image_problem,
    )
