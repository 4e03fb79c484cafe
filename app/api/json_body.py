"""Reads a request's body as one JSON object. Knows no images and no options."""

import json
from typing import Any

from fastapi import Request

from app.core.errors import MalformedJsonError, RepeatedFieldError

__all__ = ["JSON_EXAMPLE", "read_json_object"]

JSON_EXAMPLE = 'For example: {"image": "/9j/4AAQSkZJRg…"}, the bytes of the picture in base64'


# A picture is one long text: whatever needs more parts, or wide letters, would only take memory.
_MOST_PARTS = 100_000
_PLAIN_ABOVE_BYTES = 1_000_000
_MOST_DIGITS = 400  # the largest number that others write has 309


async def read_json_object(request: Request) -> dict[str, Any]:
    """Read the body, whatever its type says.

    `app.api.uploads` bounds it. Raises MalformedJsonError, RepeatedFieldError, and what is raised
    as it arrives.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
    _check_plain(body)
    try:
        text = body.decode("utf-8-sig")
        document = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_number, parse_int=_whole_number
        )
        # A lone surrogate, which JSON can spell: no answer could repeat it.
        if "\\u" in text:
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
    if not isinstance(document, dict):
        raise MalformedJsonError(f"The JSON is no object. {JSON_EXAMPLE}")
    return document


def _check_plain(body: bytearray) -> None:
    """Raise MalformedJsonError for what would take many times its bytes as it is read."""
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_PARTS:
        raise _malformed(f"it has more than {_MOST_PARTS} parts")
    if len(body) > _PLAIN_ABOVE_BYTES and (not body.isascii() or b"\\u" in body):
        raise _malformed("it is large, and has letters beyond ASCII, which base64 has not")


def _malformed(what: str) -> MalformedJsonError:
    return MalformedJsonError(f"The JSON cannot be read: {what}. {JSON_EXAMPLE}")


def _no_number(text: str) -> float:
    raise _malformed(f"{text} is no number of JSON")


def _whole_number(text: str) -> int:
    """Read a number; one of thousands of digits takes long, and is no option's."""
    if len(text) > _MOST_DIGITS:
        raise _malformed("one of its numbers is too long")
    return int(text)


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Take the members of an object, each of which may be there once."""
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            shown = name[:100].encode("ascii", "backslashreplace").decode()
            raise RepeatedFieldError(f"The JSON has the member '{shown}' twice. Give it once.")
        found[name] = value
    return found
