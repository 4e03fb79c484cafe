"""Who may ask, and how often: keys and rates, checked before a body is read.

Knows no forms and no models.

    app.api.pages ──> KeyMiddleware ──> RateMiddleware ──> app.api.uploads ──> the routes
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.request_record import KEY_IN_SCOPE, PROBES, route_path
from app.api.uploads import Refuse
from app.core.addresses import client_key
from app.core.errors import KeyNeededError, ServiceError, TooManyRequestsError
from app.core.keys import ApiKey, KeyStore, split_key
from app.core.rates import Allowance, Limits, RateLimiter, Standing

__all__ = [
    "ACCOUNT_IN_SCOPE",
    "Account",
    "KeyMiddleware",
    "RateMiddleware",
    "is_open",
    "is_probe",
    "with_headers",
]

_logger = logging.getLogger(__name__)
_OPEN = PROBES | {"/", "/docs", "/openapi.json", "/problems"}
_OPEN_FOLDERS = ("/problems/", "/static/")
_METRICS = "/metrics"
_WRONG_KEYS_A_MINUTE = 10
_MAX_CLIENTS = 10_000


def is_probe(path: str) -> bool:
    """Tell whether the address is for what restarts the service: it always answers."""
    return path in PROBES


def is_open(path: str, method: str) -> bool:
    """Tell whether an address needs no key and is not counted: it only explains, or is a probe."""
    is_named = path in _OPEN or path.startswith(_OPEN_FOLDERS)
    return is_named and method in ("GET", "HEAD")


class KeyMiddleware:
    """Lets only those in who have a key, but for the open addresses.

    A key comes as `Authorization: Bearer KEY` or as `X-API-Key: KEY`, never in the address. A right
    key passes whatever else its client's address has sent; wrong ones are answered 401, and beyond
    ten in a minute from one address 429, without a line in the log for each.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyStore,
        metrics_open: bool,
        refuse: Refuse,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the keys.

        metrics_open: /metrics needs none.
        clock: seconds since 1970 in UTC.
        """
        self._app = app
        self._keys = keys
        self._metrics_open = metrics_open
        self._refuse = refuse
        self._clock = clock
        self._wrong_keys = RateLimiter(_MAX_CLIENTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other kinds of scope pass through."""
        if scope["type"] == "http" and self._needs_key(scope):
            now = self._clock()
            given = _given_keys(Headers(scope=scope))
            key = self._verify(given, now)
            if key is None:
                refusal = self._refusal(given, _client(scope), now)
                await self._refuse(refusal, scope, receive, send)
                return
            scope[KEY_IN_SCOPE] = key
        await self._app(scope, receive, send)

    def _needs_key(self, scope: Scope) -> bool:
        path = route_path(scope)
        return not is_open(path, scope["method"]) and not (self._metrics_open and path == _METRICS)

    def _verify(self, given: set[str], now: float) -> ApiKey | None:
        """Find the key that was given; two different ones are none."""
        if len(given) != 1:
            return None
        return self._keys.current().verify(next(iter(given)), datetime.fromtimestamp(now, UTC))

    def _refusal(self, given: set[str], client: str, now: float) -> ServiceError:
        if not given:
            return KeyNeededError()
        standing = self._wrong_keys.take(client, Limits(per_minute=_WRONG_KEYS_A_MINUTE), now)
        if not standing.allowed:
            seconds = math.ceil(standing.retry_seconds)
            return TooManyRequestsError(
                f"Too many requests with keys that are not good came from this address. Try again "
                f"in {seconds} seconds.",
                seconds,
            )
        known = {key.name for key in self._keys.current().keys}
        names = {parts[0] for parts in map(split_key, given) if parts and parts[0] in known}
        _logger.warning(
            "a key that is not good, from %s: %s", client, ", ".join(names) or "of no known name"
        )
        return KeyNeededError()


class RateMiddleware:
    """Counts the requests of each key, or of each client address where none is needed.

    Every answer to a request that is counted says how its client stands, in the fields `RateLimit`
    and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        refuse: Refuse,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the limits of whoever has none of its own.

        clock: seconds since 1970 in UTC.
        """
        self._app = app
        self._limits = limits
        self._refuse = refuse
        self._clock = clock
        self._by_key = RateLimiter(_MAX_CLIENTS)
        self._by_address = RateLimiter(_MAX_CLIENTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other kinds of scope pass through."""
        if scope["type"] != "http" or not _is_counted(scope):
            await self._app(scope, receive, send)
            return
        account = self._account(scope)
        scope[ACCOUNT_IN_SCOPE] = account
        send = _with_rate_headers(send, account)
        try:
            account.take()
        except TooManyRequestsError as refusal:
            await self._refuse(refusal, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _account(self, scope: Scope) -> "Account":
        key: ApiKey | None = scope.get(KEY_IN_SCOPE)
        if key is None:
            return Account(self._by_address, _client(scope), self._limits, self._clock)
        minute, day = key.requests_per_minute, key.requests_per_day
        limits = Limits(
            self._limits.per_minute if minute is None else minute,
            self._limits.per_day if day is None else day,
        )
        return Account(self._by_key, key.name, limits, self._clock)


ACCOUNT_IN_SCOPE = "glimpse.account"
"""Where a request's scope has the account that its pictures are counted in."""


class Account:
    """What a request's client may still send: a request counts once, and each image beyond its
    first as another one."""

    def __init__(
        self, limiter: RateLimiter, name: str, limits: Limits, clock: Callable[[], float]
    ) -> None:
        self._limiter = limiter
        self._name = name
        self._limits = limits
        self._clock = clock
        self.standing = Standing(allowed=True, allowances=())

    def take(self, count: int = 1) -> None:
        """Count so many, all or none. Raises TooManyRequestsError."""
        self.standing = self._limiter.take(self._name, self._limits, self._clock(), count)
        if not self.standing.allowed:
            raise _too_many(self.standing, count)

    def take_images(self, images: int) -> None:
        """Count the images of a request, the first of which is the request itself, counted already.

        Raises TooManyRequestsError, and counts none of them then.
        """
        smallest = min(self.standing.allowances, key=lambda each: each.limit, default=None)
        if smallest is not None and images > smallest.limit:
            raise _never(smallest, images)
        if images > 1:
            self.take(images - 1)


def _with_rate_headers(send: Send, account: Account) -> Send:
    """Tell how the account stands when the answer begins."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start" and account.standing.allowances:
            present = MutableHeaders(scope=message)
            for name, value in _rate_headers(account.standing).items():
                present.setdefault(name, value)
        await send(message)

    return send_with_headers


def _is_counted(scope: Scope) -> bool:
    path = route_path(scope)
    return not is_open(path, scope["method"]) and path != _METRICS


def _rate_headers(standing: Standing) -> dict[str, str]:
    """Write the structured fields of the draft: quota q in window w; r left, whole again in t."""
    policies = [
        f'"{each.name}";q={each.limit};w={each.window_seconds}' for each in standing.allowances
    ]
    left = [
        f'"{each.name}";r={each.remaining};t={math.ceil(each.reset_seconds)}'
        for each in standing.allowances
    ]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}


def _too_many(standing: Standing, count: int) -> TooManyRequestsError:
    # A minute's last request may be told as left while it has microseconds to go.
    used = standing.allowances[0]
    if standing.allowances[-1].name == "day" and standing.allowances[-1].remaining < count:
        used = standing.allowances[-1]
    seconds = math.ceil(standing.retry_seconds)
    when = "after midnight UTC" if used.name == "day" else f"in {seconds} seconds"
    left = "and all of them are used"
    if count > 1:
        left = f"each picture counts as one, and {used.remaining} are left"
    return TooManyRequestsError(
        f"{used.limit} requests a {used.name} are allowed, {left}. Try again {when}.", seconds
    )


def _never(smallest: Allowance, images: int) -> TooManyRequestsError:
    """Refuse what no wait would let pass."""
    return TooManyRequestsError(
        f"{smallest.limit} requests a {smallest.name} are allowed, and each picture counts as one: "
        f"{images} in one request are too many. Send fewer at a time.",
        smallest.reset_seconds,
    )


def _given_keys(headers: Headers) -> set[str]:
    """Find every key that the request's headers have."""
    given = set(headers.getlist("x-api-key"))
    for value in headers.getlist("authorization"):
        scheme, _, text = value.partition(" ")
        if scheme.lower() == "bearer":
            given.add(text.strip())
    return given - {""}


def _client(scope: Scope) -> str:
    address = (scope.get("client") or ["unknown"])[0]
    return client_key(str(address))


def with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """Add headers to an answer that lacks them."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = MutableHeaders(scope=message)
            for name, value in headers.items():
                present.setdefault(name, value)
        await send(message)

    return send_with_headers
