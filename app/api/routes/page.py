"""`GET /`: the page for people. Its files are in `app/web/page`, served under `/static/page`."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from app.api.base_address import base_address_context
from app.api.routes.docs import WEB_FOLDER

__all__ = ["router"]

# Photos are shown from blobs. Nothing is inline, and no text is ever parsed as HTML or as a script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request) -> Response:
    """Serve the page. Its addresses are relative, so a root path without its slash leads to it."""
    root_path = base_address_context.get().root_path
    if root_path and request.scope.get("raw_path") == root_path.encode():
        return RedirectResponse(f"{root_path}/")
    return FileResponse(
        WEB_FOLDER / "page" / "index.html", headers={"Content-Security-Policy": _POLICY}
    )
