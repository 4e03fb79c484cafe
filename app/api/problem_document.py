"""The answer that a problem document is. Knows no errors: `app.api.errors` fills it."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from app.api.request_record import RequestRecord

__all__ = ["ProblemResponse"]


class ProblemResponse(JSONResponse):
    """A problem document. As it is sent, the request's record learns what it is of."""

    media_type = "application/problem+json"

    def __init__(
        self,
        content: dict[str, Any],
        status: int,
        headers: Mapping[str, str],
        *,
        reason: str,
        is_image_problem: bool = False,
    ) -> None:
        """Take the document and how it is counted.

        reason: one of `problem_reasons()`.
        is_image_problem: whether the image is at fault, or the memory that it takes.
        """
        super().__init__(content, status, dict(headers))
        self._reason = reason
        self._is_image_problem = is_image_problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the document."""
        record = RequestRecord.of(scope)
        if record is not None:
            record.problem = self._reason
            record.image_problem = self._is_image_problem
        await super().__call__(scope, receive, send)
