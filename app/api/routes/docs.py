"""`GET /docs` (Swagger UI, every asset served by us) and `GET /problems/…`."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException

from app.api.base_address import base_address_context
from app.api.problem_kinds import HTTP_PROBLEMS, PROBLEMS

__all__ = ["WEB_FOLDER", "router"]

WEB_FOLDER = Path(__file__).resolve().parents[2] / "web"

# The browser itself refuses whatever is not ours. Swagger UI's style sheet has its icons as data,
# and it shows drawings from blobs; nothing on the page is inline.
_ONLY_OURS = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_KINDS = {kind.slug: kind for kind in (*PROBLEMS.values(), *HTTP_PROBLEMS.values())}

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """Serve the OpenAPI document, with the address in its examples at which the client asked."""
    text: str = request.app.state.openapi_text()
    return Response(base_address_context.get().localize(text), media_type="application/json")


@router.get("/docs")
async def docs() -> FileResponse:
    """Serve Swagger UI."""
    return FileResponse(WEB_FOLDER / "docs.html", headers={"Content-Security-Policy": _ONLY_OURS})


@router.get("/problems")
async def list_problems() -> JSONResponse:
    """List the addresses of every kind of problem."""
    return JSONResponse({"problems": sorted(kind.type for kind in _KINDS.values())})


@router.get("/problems/{slug}")
async def describe_problem(slug: str) -> JSONResponse:
    """Say what a problem's `type` means."""
    kind = _KINDS.get(slug)
    if kind is None:
        raise HTTPException(404)
    return JSONResponse(
        {
            "type": kind.type,
            "title": kind.title,
            "status": kind.status,
            "example": base_address_context.get().localize(kind.example),
        }
    )
