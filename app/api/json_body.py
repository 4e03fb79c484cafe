"""Reads a request's body as one small JSON object. Knows no images and no options."""

import json
from typing import Any

from fastapi import Request

from app.core.errors import BodyTooLargeError, MalformedJsonError, RepeatedFieldError

__all__ = ["JSON_EXAMPLE", "read_json_object"]

JSON_EXAMPLE = 'For example: {"url": "https://example.org/photo.jpg"}'

_MAX_BYTES = 64_000


async def read_json_object(request: Request) -> dict[str, Any]:
    """Read the body, whatever its type says.

    Raises MalformedJsonError, RepeatedFieldError, BodyTooLargeError, or BodyTimeoutError as it
    arrives.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BYTES:
            raise BodyTooLargeError(
                f"The JSON is larger than {_MAX_BYTES} bytes, which is the most that is accepted. "
                "Send the URL of a picture in it, or the picture in a form."
            )
    try:
        document = json.loads(
            body.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_number
        )
        # A lone surrogate, which JSON can spell: no answer could repeat it.
        json.dumps(document, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        what = f"{error.msg[:1].lower()}{error.msg[1:]}"
        raise _malformed(f"{what} at line {error.lineno}, column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is no UTF-8") from error
    except UnicodeEncodeError as error:
        raise _malformed("it escapes half a character") from error
    except RecursionError as error:
        raise _malformed("it is nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits
        raise _malformed("one of its numbers is too long") from error
    if not isinstance(document, dict):
        raise MalformedJsonError(f"The JSON is no object. {JSON_EXAMPLE}")
    return document


def _malformed(what: str) -> MalformedJsonError:
    return MalformedJsonError(f"The JSON cannot be read: {what}. {JSON_EXAMPLE}")


def _no_number(text: str) -> float:
    raise _malformed(f"{text} is no number of JSON")


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Take the members of an object, each of which may be there once."""
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            shown = name[:100].encode("ascii", "backslashreplace").decode()
            raise RepeatedFieldError(f"The JSON has the member '{shown}' twice. Give it once.")
        found[name] = value
    return found
