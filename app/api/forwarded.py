"""Where a request came from and which address it was sent to, as trusted proxies tell it.

Plain ASGI, around everything else. Knows no routes.
"""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.base_address import BaseAddress, base_address_context
from app.core.addresses import TrustedProxies

__all__ = ["HOST_AS_SENT", "ForwardedMiddleware"]

HOST_AS_SENT = "glimpse.host"
"""Where a request's scope has its Host header as it came, before a proxy's word for it."""

# Whatever else a Host header may hold is not repeated to anybody.
_SANE_HOST = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
)


class ForwardedMiddleware:
    """Puts the client, the scheme, the host and the root path of a request into its scope.

    The host is a harmless one afterwards. The path begins with the root path, whether a proxy
    stripped it or not.
    """

    def __init__(self, app: ASGIApp, *, proxies: TrustedProxies, root_path: str) -> None:
        self._app = app
        self._proxies = proxies
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other kinds of scope pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        scope[HOST_AS_SENT] = host
        if (scope.get("client") or [""])[0] in self._proxies:
            host = self._believe(scope, headers) or host
        # A Host that is not sane stays where it is: whoever judges it must see what was sent.
        if _SANE_HOST.fullmatch(host):
            _put_host(scope, host)
        else:
            host = _own_host(scope)
        self._put_root_path(scope)
        base = BaseAddress(f"{scope['scheme']}://{host}{self._root_path}", self._root_path)
        token = base_address_context.set(base)
        try:
            await self._app(scope, receive, send)
        finally:
            base_address_context.reset(token)

    def _believe(self, scope: Scope, headers: Headers) -> str:
        """Take the scheme and the client from a proxy's headers; give the host, or nothing."""
        forwarded_for = ",".join(headers.getlist("x-forwarded-for"))
        client = self._proxies.client_of(forwarded_for) if forwarded_for else None
        if client is not None:
            scope["client"] = (client, 0)
        schemes = ",".join(headers.getlist("x-forwarded-proto"))
        scheme = self._proxies.believed(schemes, forwarded_for).lower()
        if scheme in ("http", "https"):
            scope["scheme"] = scheme
        hosts = ",".join(headers.getlist("x-forwarded-host"))
        return self._proxies.believed(hosts, forwarded_for)

    def _put_root_path(self, scope: Scope) -> None:
        root = self._root_path
        scope["root_path"] = root
        path = scope["path"]
        if root and path != root and not path.startswith(f"{root}/"):
            scope["path"] = root + path
            scope["raw_path"] = root.encode() + (scope.get("raw_path") or path.encode())
        elif root and path == root:
            scope["path"] = f"{root}/"


def _own_host(scope: Scope) -> str:
    """The host to name where the request names none that can be repeated."""
    port = (scope.get("server") or ("", None))[1]
    return f"localhost:{port}" if port else "localhost"


def _put_host(scope: Scope, host: str) -> None:
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    scope["headers"] = [(b"host", host.encode("ascii")), *others]
