"""What the framework does not put into the OpenAPI document: error answers with examples, keys, the
schemas of problems. The bodies of uploads are in `app.api.openapi_bodies`."""

import json
from collections import defaultdict
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.access import is_open
from app.api.problem_kinds import PROBLEMS, ProblemKind
from app.api.schemas import Problem, WrongOption
from app.core import errors as service
from app.core.settings import Settings
from models import errors as library

__all__ = ["SEVERAL_ERRORS", "UPLOAD_ERRORS", "install_openapi", "json_example", "problems"]

Responses = dict[int | str, dict[str, Any]]

UPLOAD_ERRORS: tuple[type[Exception], ...] = (
    service.MissingImageError,
    service.TwoImagesError,
    service.MalformedBase64Error,
    service.ImageNotAFileError,
    service.UnexpectedFieldError,
    service.RepeatedFieldError,
    service.MalformedFormError,
    service.MalformedJsonError,
    library.EmptyImageError,
    service.UrlFetchingOffError,
    library.UnknownModelError,
    service.BodyTimeoutError,
    service.BodyTooLargeError,
    service.UrlTooLargeError,
    library.ImageTooLargeError,
    service.BodyTypeError,
    service.UrlNotAnImageError,
    library.UnreadableImageError,
    library.TruncatedImageError,
    library.ImageTooSmallError,
    library.ImageTooSlowError,
    library.ImageCrashError,
    library.OptionsError,
    service.UrlRefusedError,
    service.UrlUnreachableError,
    service.UrlStatusError,
    service.UrlTimeoutError,
    service.ServiceError,
    service.NotReadyError,
    service.ModelUnavailableError,
    service.ModelsMemoryFullError,
    service.QueueFullError,
    library.OutOfMemoryError,
    service.TooManyUploadsError,
    service.TooManyFetchesError,
    service.UploadMemoryFullError,
    service.RequestTimeoutError,
    service.DecoderLostError,
    service.InferenceLostError,
    service.StoppingError,
)
"""Every error that may answer an upload."""

_OF_ONE_ALONE = frozenset(
    {
        service.TwoImagesError,
        service.UrlFetchingOffError,
        service.UrlTooLargeError,
        service.UrlNotAnImageError,
        service.UrlRefusedError,
        service.UrlUnreachableError,
        service.UrlStatusError,
        service.UrlTimeoutError,
        service.TooManyFetchesError,
    }
)
SEVERAL_ERRORS: tuple[type[Exception], ...] = (
    service.TooManyImagesError,
    *(error for error in UPLOAD_ERRORS if error not in _OF_ONE_ALONE),
)
"""Every error that may answer several images, or one of them."""

_GUARDS: tuple[type[Exception], ...] = (
    service.KeyNeededError,
    service.WrongHostError,
    service.TooManyRequestsError,
)
_SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, where the operator has asked for keys.",
    },
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key in a header of its own.",
    },
}


def problems(*errors: type[Exception]) -> Responses:
    """Document a route's error answers: one response a status, one example an error."""
    kinds: dict[int, dict[str, ProblemKind]] = defaultdict(dict)
    for error in errors:
        kind = PROBLEMS[error]
        kinds[kind.status][kind.slug] = kind
    return {status: _response(list(by_slug.values())) for status, by_slug in sorted(kinds.items())}


def json_example(example: Any, description: str) -> dict[str, Any]:
    """Document a route's good answer."""
    return {"description": description, "content": {"application/json": {"example": example}}}


def install_openapi(app: FastAPI, settings: Settings) -> None:
    """Put what no route says into the app's document: problems, keys, and who is refused.

    The document does not depend on the root path; `app.state.openapi_text()`, which is served,
    does.
    """
    root_path = settings.root_path

    def build() -> dict[str, Any]:
        if not app.openapi_schema:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            schemas = document["components"]["schemas"]
            _forget_default_errors(document)
            _declare_guards(document, settings)
            for model in (WrongOption, Problem):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schema.pop("$defs", None)
                schemas[model.__name__] = schema
            app.openapi_schema = document
        return app.openapi_schema

    @cache
    def text() -> str:
        """Write the document for where the service is shown: addresses under the root path."""
        document = build()
        if root_path:
            document = {**document, "servers": [{"url": root_path}]}
        written = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        return written.replace('"/problems/', f'"{root_path}/problems/')

    app.openapi = build  # type: ignore[method-assign]
    app.state.openapi_text = text


def _forget_default_errors(document: dict[str, Any]) -> None:
    """Remove the error answers that the framework documents: ours look different."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _declare_guards(document: dict[str, Any], settings: Settings) -> None:
    """Say of each operation that is guarded which key it takes, and how it refuses."""
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    ways: list[dict[str, list[str]]] = [{name: []} for name in _SECURITY_SCHEMES]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if is_open(path, method.upper()):
                continue
            is_free = not settings.keys_file or (path == "/metrics" and settings.metrics_open)
            operation["security"] = [{}, *ways] if is_free else ways
            guards = (
                (*_GUARDS, service.ForeignPageError) if method in ("post", "delete") else _GUARDS
            )
            added = {str(status): answer for status, answer in problems(*guards).items()}
            operation["responses"] = dict(sorted({**added, **operation["responses"]}.items()))


def _response(kinds: list[ProblemKind]) -> dict[str, Any]:
    waiting = (
        "seconds until trying again makes sense; left out where waiting does not help "
        "(model-unavailable)"
    )
    headers = {"Retry-After": {"description": waiting, "schema": {"type": "integer"}}}
    return {
        "description": "; ".join(kind.title for kind in kinds),
        **({"headers": headers} if kinds[0].status in (429, 503) else {}),
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {
                    kind.slug: {"summary": kind.title, "value": _example(kind)} for kind in kinds
                },
            }
        },
    }


def _example(kind: ProblemKind) -> dict[str, Any]:
    return Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=kind.example,
        instance="urn:request:1f0c6f6a3d1c4f0e9b1f5a7d2c3e4b5a",
    ).model_dump(exclude_none=True)
