"""What the framework does not put into the OpenAPI document: error answers with examples, the
upload form, the schemas of problems."""

from collections import defaultdict
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.errors import PROBLEMS, ProblemKind
from app.api.schemas import Problem, WrongOption
from app.core import errors as service
from models import errors as library

__all__ = ["UPLOAD_BODY", "UPLOAD_ERRORS", "install_openapi", "json_example", "problems"]

Responses = dict[int | str, dict[str, Any]]

UPLOAD_ERRORS: tuple[type[Exception], ...] = (
    service.MissingImageError,
    service.ImageNotAFileError,
    service.UnexpectedFieldError,
    service.RepeatedFieldError,
    service.MalformedFormError,
    library.EmptyImageError,
    library.UnknownModelError,
    service.BodyTimeoutError,
    service.BodyTooLargeError,
    library.ImageTooLargeError,
    service.NotMultipartError,
    library.UnreadableImageError,
    library.TruncatedImageError,
    library.ImageTooSmallError,
    library.OptionsError,
    service.ServiceError,
    service.NotReadyError,
    service.ModelUnavailableError,
    service.ModelsMemoryFullError,
    service.QueueFullError,
    library.OutOfMemoryError,
    service.TooManyUploadsError,
    service.RequestTimeoutError,
    service.StoppingError,
)
"""Every error that may answer an upload."""

UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A form with one picture. The options may also be fields of the form, "
        "instead of parameters.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {
                            "type": "string",
                            "format": "binary",
                            "description": "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC, unless "
                            "this service accepts fewer; the first frame of an animation",
                        }
                    },
                }
            }
        },
    }
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


def install_openapi(app: FastAPI) -> None:
    """Put the schemas of problems, which no route returns, into the app's document."""

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
            for model in (WrongOption, Problem):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schema.pop("$defs", None)
                schemas[model.__name__] = schema
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def _forget_default_errors(document: dict[str, Any]) -> None:
    """Remove the error answers that the framework documents: ours look different."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _response(kinds: list[ProblemKind]) -> dict[str, Any]:
    waiting = (
        "seconds until trying again makes sense; left out where waiting does not help "
        "(model-unavailable)"
    )
    headers = {"Retry-After": {"description": waiting, "schema": {"type": "integer"}}}
    return {
        "description": "; ".join(kind.title for kind in kinds),
        **({"headers": headers} if kinds[0].status == 503 else {}),
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
