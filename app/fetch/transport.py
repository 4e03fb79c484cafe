"""HTTP over a connection to addresses that were checked before. Resolves nothing: what was checked
is what is connected to, while TLS and the Host header keep the URL's own name."""

import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import httpcore
import httpx

__all__ = ["PinnedTransport"]


class PinnedTransport(httpx.AsyncBaseTransport):
    """Sends each request to the first of the given addresses that answers.

    Raises httpcore's errors, not httpx's.
    """

    def __init__(self, addresses: Sequence[str], tls: ssl.SSLContext) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=1,
            max_keepalive_connections=0,
            network_backend=_PinnedBackend(addresses),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and give its answer with an unread body."""
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer.stream))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._pool.aclose()


class _PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses, whatever name it is asked for."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in self._addresses:
            try:
                return await self._network.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"no address for {host}")


class _Body(httpx.AsyncByteStream):
    """A body as it came, for httpx."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
