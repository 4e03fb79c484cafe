"""What browsers are told of every answer, and which of their requests are refused.

Knows no forms and no models.

    app.api.forwarded ──> SecurityHeadersMiddleware ──> app.api.middleware ──> PageMiddleware ──>
    app.api.access ──> …

What a browser is made to send by a page that is not ours is refused, by two checks. The Host header
must be a name of this service: a page whose own name was pointed to this machine (DNS rebinding)
asks under that name. And the page that sends something must be ours, or be allowed: the browser
says where it is from in `Sec-Fetch-Site` and `Origin`, which no page can change. Neither check
stops a program that is no browser; keys do.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.access import is_probe, with_headers
from app.api.forwarded import HOST_AS_SENT
from app.api.request_record import route_path
from app.api.uploads import Refuse
from app.core.errors import ForeignPageError, ServiceError, WrongHostError
from app.core.origins import DEFAULT_PORTS, Origin, is_loopback, parse_host, parse_origin

__all__ = ["EXPOSED_HEADERS", "SECURITY_HEADERS", "PageMiddleware", "SecurityHeadersMiddleware"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

EXPOSED_HEADERS = ("X-Request-ID", "RateLimit", "RateLimit-Policy", "Retry-After")
"""What a page of an allowed origin may read, beside what every page may."""

# Strict-Transport-Security is left to the proxy that speaks TLS: only it knows that all does.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), "
    "payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SecurityHeadersMiddleware:
    """Tells browsers, on every answer, to trust nothing in it that they need not.

    An answer may have its own header of a name; the documentation has its own policy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other kinds of scope pass through."""
        headers = dict(SECURITY_HEADERS)
        if scope["type"] == "http":
            # Files of two versions do not fit together: browsers are to ask whether they changed.
            is_static = route_path(scope).startswith("/static/")
            headers["Cache-Control"] = "no-cache" if is_static else "no-store"
        await self._app(scope, receive, with_headers(send, headers))


class PageMiddleware:
    """Refuses requests under another name, and what pages of other sites send."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host_names: frozenset[str] | None,
        foreign_origins: frozenset[Origin] | None,
        refuse: Refuse,
    ) -> None:
        """Take the rules.

        host_names: under which the service may be asked; None is every name.
        foreign_origins: other sites whose pages may send something; None is every site.
        """
        self._app = app
        self._host_names = host_names
        self._foreign_origins = foreign_origins
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other kinds of scope pass through."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refusal = self._wrong_host(scope, headers) or self._foreign_page(scope, headers)
            if refusal is not None:
                await self._refuse(refusal, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _wrong_host(self, scope: Scope, headers: Headers) -> ServiceError | None:
        """Refuse a name that is not ours. Without a Host header it was no browser.

        Both are judged, the name that was sent and the one that a proxy gives: on loopback any page
        of this machine's browsers could write what a proxy would.
        """
        if self._host_names is None or is_probe(route_path(scope)):
            return None
        for text in (scope.get(HOST_AS_SENT, ""), headers.get("host", "")):
            host = parse_host(text)
            is_ours = host is not None and (is_loopback(host[0]) or host[0] in self._host_names)
            if text and not is_ours:
                name = f"'{host[0][:100]}'" if host else "that"
                return WrongHostError(
                    f"This service is not known as {name}. Use an address of this machine such as "
                    "localhost; its operator can allow other names with GLIMPSE_ALLOWED_HOSTS."
                )
        return None

    def _foreign_page(self, scope: Scope, headers: Headers) -> ServiceError | None:
        """Refuse what a page of another site sends; what only asks, it cannot read anyway."""
        if scope["method"] in _SAFE_METHODS or self._foreign_origins is None:
            return None
        text = headers.get("origin")
        origin = parse_origin(text) if text is not None else None
        if origin is not None and origin in self._foreign_origins:
            return None
        site = headers.get("sec-fetch-site")
        if site is None:  # an older browser, a plain http page, or no browser at all
            is_ours = text is None or (origin is not None and _is_same_host(origin, headers))
        else:
            is_ours = site in ("same-origin", "none")
        if is_ours:
            return None
        page = f"a page of {text[:100]}" if origin and text else "a page of another site"
        return ForeignPageError(
            f"The request comes from {page}, and that site may not use this service. Its operator "
            "can allow it with GLIMPSE_CORS_ORIGINS."
        )


def _is_same_host(origin: Origin, headers: Headers) -> bool:
    """Tell whether a page is from this service.

    X-Forwarded-Host, where a proxy in front says how it was asked, is believed from anyone: a page
    of another site can send it only after a preflight request, which is not granted.
    """
    default = DEFAULT_PORTS[origin.scheme]
    own = (headers.get("host", ""), headers.get("x-forwarded-host", "").partition(",")[0])
    for host in map(parse_host, own):
        if host is not None and Origin(origin.scheme, host[0], host[1] or default) == origin:
            return True
    return False
