"""The client that waits for each answer. Knows no server code."""

import time
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx

from glimpse_client.attempts import Attempts
from glimpse_client.calls import (
    LIMITS,
    Address,
    Call,
    Options,
    attention_call,
    caption_call,
    model_call,
    models_call,
    overlay_call,
    transport_error,
)
from glimpse_client.errors import GlimpseError
from glimpse_client.images import Image, read_image
from glimpse_client.results import AttentionResult, CaptionResult, ModelDescription

__all__ = ["Client"]

Result = TypeVar("Result")


class Client:
    """A Glimpse server, called and waited for. Several threads may share one.

    Connections are kept and used again: make one client, not one for each call, and close it, or
    use it in a `with` block.

    An image is a path, the bytes of a file, an image of PIL, or a URL (where the server fetches
    them). Each call raises a GlimpseError where there is no answer that is good.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 60.0,
        retries: int = 5,
        http: httpx.Client | None = None,
    ) -> None:
        """Take where the server is. Nothing is sent yet.

        timeout_seconds: longest time of a call, its retries and the waits between them included.
            The server is told of it too, and computes nothing for which nobody waits any more.
        retries: how often a call is tried again where that may help: a busy server, a broken
            connection. The server's `Retry-After` is heeded.
        http: an httpx client of your own, with proxies or certificates; it is not closed here.
        Raises ValueError.
        """
        self._address = Address(url, api_key)
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._is_own = http is None
        self._http = http or httpx.Client(limits=LIMITS)
        self._attempts(None)  # refuses what cannot be, at once

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._is_own:
            self._http.close()

    def caption(
        self, image: Image, *, timeout_seconds: float | None = None, **options: Unpack[Options]
    ) -> CaptionResult:
        """Say in a sentence what an image shows.

        timeout_seconds: for this call, instead of the client's own.
        """
        return self._send(caption_call(read_image(image), options), timeout_seconds)

    def attention(
        self, image: Image, *, timeout_seconds: float | None = None, **options: Unpack[Options]
    ) -> AttentionResult:
        """Caption an image, and say for each word where in it the model looked."""
        return self._send(attention_call(read_image(image), options), timeout_seconds)

    def overlay(
        self,
        image: Image,
        *,
        word: int | None = None,
        timeout_seconds: float | None = None,
        **options: Unpack[Options],
    ) -> bytes:
        """Draw where the model looked: the bytes of a PNG.

        word: draw only the map of this word of the caption, counted from 0.
        """
        return self._send(overlay_call(read_image(image), word, options), timeout_seconds)

    def models(self, *, timeout_seconds: float | None = None) -> tuple[ModelDescription, ...]:
        """List the server's models, by name."""
        return self._send(models_call(), timeout_seconds)

    def model(self, name: str, *, timeout_seconds: float | None = None) -> ModelDescription:
        """Describe one model."""
        return self._send(model_call(name), timeout_seconds)

    def _attempts(self, timeout_seconds: float | None) -> Attempts:
        if timeout_seconds is None:
            timeout_seconds = self._timeout_seconds
        return Attempts(timeout_seconds=timeout_seconds, retries=self._retries)

    def _send(self, call: Call[Result], timeout_seconds: float | None) -> Result:
        attempts = self._attempts(timeout_seconds)
        while True:
            try:
                return self._attempt(call, attempts)
            except GlimpseError as error:
                wait_seconds = attempts.wait_after(error)
            time.sleep(wait_seconds)

    def _attempt(self, call: Call[Result], attempts: Attempts) -> Result:
        body = bytearray()
        try:
            request = self._http.build_request(**call.request(self._address, attempts))
            response = self._http.send(request, stream=True, follow_redirects=False)
            try:
                for piece in response.iter_bytes():
                    body += piece
                    attempts.seconds_left()
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise transport_error(error, self._address, attempts) from error
        return call.result(response, bytes(body))
