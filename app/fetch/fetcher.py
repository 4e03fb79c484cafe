"""Fetches a picture by its URL, within limits of size, time and number, from where the policy
allows. Opens no image: its bytes are judged as an upload's are."""

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import httpcore
import httpx

from app.core.errors import (
    ServiceError,
    TooManyFetchesError,
    UrlNotAnImageError,
    UrlRefusedError,
    UrlStatusError,
    UrlTimeoutError,
    UrlTooLargeError,
    UrlUnreachableError,
)
from app.core.metrics import Metrics
from app.fetch.policy import HIDDEN, FetchPolicy
from app.fetch.resolver import Resolve, Resolver
from app.fetch.transport import PinnedTransport

__all__ = ["FetchLimits", "ImageFetcher"]

_logger = logging.getLogger(__name__)
_MAX_REDIRECTS = 3
_MAX_ADDRESSES = 4
_IDLE_SECONDS = 5.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BYTES_OF_ANY_KIND = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_HEADERS = {
    "User-Agent": "Glimpse",
    "Accept": "image/*, application/octet-stream;q=0.5",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_OUTCOMES: dict[type[ServiceError], str] = {
    UrlRefusedError: "refused",
    UrlUnreachableError: "unreachable",
    UrlStatusError: "wrong status",
    UrlNotAnImageError: "no image",
    UrlTooLargeError: "too large",
    UrlTimeoutError: "too slow",
    TooManyFetchesError: "busy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """How much one fetch may take, and how many may run at a time."""

    max_bytes: int
    timeout_seconds: float
    max_fetches: int


class ImageFetcher:
    """Fetches pictures: no cookies, no credentials, no proxies, nothing kept between two."""

    def __init__(
        self,
        policy: FetchPolicy,
        limits: FetchLimits,
        *,
        metrics: Metrics,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the rules, the limits, and the metrics to count in.

        resolve: in place of the system's; tls: in place of trust in the public authorities.
        """
        self._policy = policy
        self._limits = limits
        self._metrics = metrics
        # A lookup may outlive the fetch that asked: others go on meanwhile.
        self._resolve = resolve or Resolver(2 * limits.max_fetches)
        self._tls = tls or httpx.create_ssl_context(trust_env=False)
        self._idle_seconds = min(_IDLE_SECONDS, limits.timeout_seconds)
        self._running = 0

    async def fetch(self, url: str) -> bytes:
        """Fetch the bytes behind a URL.

        Raises the UrlErrors, and TooManyFetchesError.
        """
        if self._running >= self._limits.max_fetches:
            self._metrics.fetches.labels("busy").inc()
            raise TooManyFetchesError(
                f"{self._limits.max_fetches} pictures are being fetched already. Try again in a "
                "few seconds."
            )
        self._running += 1
        started = perf_counter()
        outcome = "dropped"  # the client hung up, or the service stops
        host = ""
        try:
            checked = self._policy.read(url)
            host = checked.host
            data = await self._in_time(checked)
            outcome = "fetched"
            return data
        except ServiceError as error:
            outcome = _OUTCOMES.get(type(error), "failed")
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._running -= 1
            seconds = perf_counter() - started
            self._metrics.fetches.labels(outcome).inc()
            self._metrics.fetch_seconds.observe(seconds)
            _logger.info("fetch: %s", outcome, extra={"host": host, "seconds": round(seconds, 4)})

    async def _in_time(self, url: httpx.URL) -> bytes:
        seconds = self._limits.timeout_seconds
        try:
            async with asyncio.timeout(seconds) as clock:
                return await self._follow(url)
        except TimeoutError as error:
            if not clock.expired():  # not the host's slowness: whatever raised it is at fault
                raise
            raise UrlTimeoutError(
                f"The picture did not arrive within {seconds:g} seconds. Send the picture itself."
            ) from error

    async def _follow(self, url: httpx.URL) -> bytes:
        """Ask, and follow redirects by hand: each target is checked as the first URL was."""
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._ask(url)
            if isinstance(answer, bytes):
                return answer
            target = self._policy.read(_joined(url, answer))
            if url.scheme == "https" and target.scheme == "http":
                raise UrlRefusedError(
                    "The URL leads from https to http, which is not followed. Send the picture "
                    "itself."
                )
            url = target
        raise UrlRefusedError(
            f"The URL leads on more than {_MAX_REDIRECTS} times. Send the address where it ends."
        )

    async def _ask(self, url: httpx.URL) -> bytes | str:
        """Send one request; give the body, or where it redirects to."""
        addresses = await self._addresses(url)
        timeout = httpx.Timeout(self._idle_seconds).as_dict()
        request = httpx.Request("GET", url, headers=_HEADERS, extensions={"timeout": timeout})
        # Without httpx's client: it has cookies, credentials and redirects of its own.
        with _failures_explained(self._idle_seconds):
            async with PinnedTransport(addresses, self._tls) as transport:
                response = await transport.handle_async_request(request)
                try:
                    return await self._read(response)
                finally:
                    await response.aclose()

    async def _addresses(self, url: httpx.URL) -> list[str]:
        """Resolve a host, once, and check every address. Raises UrlRefusedError."""
        host = url.raw_host.decode("ascii")
        try:
            addresses = await self._resolve(host, self._policy.port(url))
        except OSError as error:
            _logger.info("fetch: no address", extra={"host": host, "reason": str(error)})
            raise UrlRefusedError(HIDDEN) from error
        forbidden = self._policy.find_forbidden(addresses)
        if forbidden is not None or not addresses:
            _logger.info("fetch: forbidden address", extra={"host": host, "address": forbidden})
            raise UrlRefusedError(HIDDEN)
        return addresses[:_MAX_ADDRESSES]

    async def _read(self, response: httpx.Response) -> bytes | str:
        if response.status_code in _REDIRECTS and "location" in response.headers:
            return response.headers["location"]
        if response.status_code != httpx.codes.OK:
            raise UrlStatusError(
                f"The URL answered {response.status_code} instead of 200. Send one that a browser "
                "without a login shows."
            )
        _check_type(response.headers)
        most = self._limits.max_bytes
        announced = response.headers.get("content-length", "0")
        too_large = UrlTooLargeError(
            f"The picture behind the URL is larger than {most} bytes, which is the most that is "
            "accepted. Send a smaller copy."
        )
        if not announced.isdecimal() or int(announced) > most:
            raise too_large
        data = bytearray()
        async for piece in response.aiter_raw():
            if len(data) + len(piece) > most:
                raise too_large
            data += piece
        return bytes(data)


def _joined(url: httpx.URL, location: str) -> str:
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise UrlRefusedError(
            "The URL leads on to one that cannot be read. Send the picture itself."
        ) from error


def _check_type(headers: httpx.Headers) -> None:
    """Raise UrlNotAnImageError where the headers rule a picture out, or the body is compressed."""
    found = headers.get("content-type", "")
    media_type = found.split(";")[0].strip().lower()
    if not media_type.startswith("image/") and media_type not in _BYTES_OF_ANY_KIND:
        raise UrlNotAnImageError(
            f"The URL answered with '{found[:100]}', which is no picture. Send the address of the "
            "picture itself, not of the page that shows it."
        )
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UrlNotAnImageError(
            "The URL answered with a compressed body, though none was asked for. Send the picture "
            "itself."
        )


@contextmanager
def _failures_explained(idle_seconds: float) -> Iterator[None]:
    """Turn what a connection raises into UrlErrors.

    Only addresses that the policy allows come so far: what is said here maps nothing inside.
    """
    try:
        yield
    except httpcore.TimeoutException as error:
        raise UrlTimeoutError(
            f"The host of the URL was silent for {idle_seconds:g} seconds. Send the picture itself."
        ) from error
    except httpcore.ConnectError as error:
        said = "did not take the connection"
        if _is_of_tls(error):
            said = "has no certificate that is valid for its name, or speaks no TLS"
        raise UrlUnreachableError(
            f"The host of the URL {said}. Send the picture itself."
        ) from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise UrlUnreachableError(
            "The host of the URL broke off, or does not answer in HTTP. Send the picture itself."
        ) from error


def _is_of_tls(error: BaseException | None) -> bool:
    """Tell whether TLS is at the root of an error, however often it was wrapped."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None
