"""Reads an upload: one image and the options beside it, from whichever kind of body was sent.

* a multipart form with a file in the field `image`;
* a JSON object with the member `url`, which names where an image lies.

`app.api.uploads` counts the bytes while they arrive; this counts the form's parts. Nothing goes
to disk, nothing is fetched, and no image is opened.
"""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.api.json_body import JSON_EXAMPLE, read_json_object
from app.core.errors import (
    ImageNotAFileError,
    MalformedFormError,
    MissingImageError,
    NotMultipartError,
    RepeatedFieldError,
    UnexpectedFieldError,
    UrlFetchingOffError,
)

__all__ = ["ImageUrl", "Upload", "read_upload"]

_MAX_FILES = 4
_MAX_FIELDS = 16
_MAX_FIELD_BYTES = 1024
_NO_TEXT = "The multipart form cannot be read: it is not in the charset that it names. Send UTF-8."
_EXAMPLE = "For example: curl -F image=@photo.jpg http://localhost:8000/caption"

_TEXT_NOT_FILE = (
    "The field 'image' holds text, not a file. With curl, put @ before the path: -F "
    "image=@photo.jpg"
)


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """Where an image lies that is not fetched yet; nothing about the text is checked."""

    url: str


@dataclass(frozen=True, slots=True)
class Upload:
    """One image, and the other fields as text."""

    image: bytes | ImageUrl
    fields: dict[str, str]


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, with files in memory: the body's limit bounds them.

    Disks may be read-only.
    """

    spool_max_size = 2**40

    async def parse(self) -> FormData:
        """Parse the form, and let go of every file that does not come to be a part of it."""
        kept: list[object] = []
        try:
            form = await super().parse()
            kept = [part.file for _, part in form.multi_items() if isinstance(part, UploadFile)]
            return form
        finally:
            for file in self._files_to_close_on_error:
                if file not in kept:
                    file.close()

    def fault(self, error: MultiPartException) -> str:
        """Say in our own words what `parse` raised an error for."""
        if b"boundary" not in parse_options_header(self.headers["Content-Type"])[1]:
            return "its Content-Type names no boundary between the parts."
        if error.__cause__ is not None:  # the library's that knows the format
            return "its parts are not divided as its Content-Type says, or it was cut off."
        if self._current_files > self.max_files:
            return f"it has more than {_MAX_FILES} files."
        if self._current_fields > self.max_fields:
            return f"it has more than {_MAX_FIELDS} fields that are no files."
        if b"name" not in parse_options_header(self._current_part.content_disposition)[1]:
            return "one of its parts has no name."
        return f"one of its options has more than {_MAX_FIELD_BYTES:,} bytes."

    def on_headers_finished(self) -> None:
        """Take the part named `image` for a file, also where no file name was sent with it.

        `curl -F 'image=<photo.jpg'`, and several clients in other languages, send none.
        """
        part = self._current_part
        options = parse_options_header(part.content_disposition)[1]
        if options.get(b"name") == b"image" and b"filename" not in options:
            part.content_disposition = (part.content_disposition or b"") + b'; filename=""'
        super().on_headers_finished()


async def read_upload(
    request: Request, field_names: frozenset[str], *, accepts_urls: bool
) -> Upload:
    """Read an image, or where it lies, and the options.

    field_names: the options that there may be.
    accepts_urls: whether a JSON object with a URL is one of the kinds of body.
    Raises the RequestErrors of a body, and BodyTooLargeError or BodyTimeoutError as it arrives.
    """
    content_type = request.headers.get("content-type", "")
    media_type = content_type.split(";")[0].strip().lower()
    if (
        request.headers.get("content-length", "0") == "0"
        and "transfer-encoding" not in request.headers
    ):
        raise MissingImageError(f"The request has no body. {_EXAMPLE}")
    if media_type == "multipart/form-data":
        return await _read_form(request, field_names)
    if media_type == "application/json":
        if not accepts_urls:
            raise UrlFetchingOffError(
                "This service fetches no pictures by URL: its operator has not turned that on. "
                f"Send the picture itself. {_EXAMPLE}"
            )
        return _read_members(await read_json_object(request), field_names)
    found = f"'{content_type[:100]}'" if content_type else "of no stated type"
    raise NotMultipartError(
        f"The picture is expected in a multipart form, but the body is {found}. {_EXAMPLE}"
    )


def _read_members(document: dict[str, Any], field_names: frozenset[str]) -> Upload:
    """Read the URL and the options of a JSON object; null counts as left out."""
    for name in document:
        if name not in field_names | {"url"}:
            raise UnexpectedFieldError(
                f"The JSON has an unknown member '{name[:100]}'. The picture's address is expected "
                f"in a member named 'url'; others may be {', '.join(sorted(field_names))}."
            )
    url = document.pop("url", None)
    if not isinstance(url, str) or not url.strip():
        raise MissingImageError(
            f"The JSON has no member 'url' that is the text of a URL. {JSON_EXAMPLE}"
        )
    fields = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in document.items()
        if value is not None
    }
    return Upload(image=ImageUrl(url), fields=fields)


async def _read_form(request: Request, field_names: frozenset[str]) -> Upload:
    form = await _parse(request)
    try:
        _check_names(form, field_names)
        image = form.get("image")
        if image is None:
            raise MissingImageError(f"The form has no field named 'image'. {_EXAMPLE}")
        # A name in an odd charset may become "image" only when it is decoded: that part is text.
        if not isinstance(image, UploadFile):
            raise ImageNotAFileError(_TEXT_NOT_FILE)
        data = await image.read()
        if not image.filename and _is_short_text(data):
            raise ImageNotAFileError(_TEXT_NOT_FILE)
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        return Upload(image=data, fields=fields)
    finally:
        await form.close()


def _is_short_text(data: bytes) -> bool:
    """Tell whether a part without a file name is a path or other text, rather than an image."""
    try:
        return 0 < len(data) <= _MAX_FIELD_BYTES and data.decode().isprintable()
    except UnicodeDecodeError:
        return False


async def _parse(request: Request) -> FormData:
    parser = _InMemoryParser(
        request.headers,
        request.stream(),
        max_files=_MAX_FILES,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise MalformedFormError(
            f"The multipart form cannot be read: {parser.fault(error)} {_EXAMPLE}"
        ) from error
    except UnicodeError as error:
        raise MalformedFormError(_NO_TEXT) from error


def _check_names(form: FormData, field_names: frozenset[str]) -> None:
    """Raise UnexpectedFieldError, RepeatedFieldError or MalformedFormError unless each field is
    known, there once, and readable."""
    counts = Counter(name for name, _ in form.multi_items())
    for name, value in form.multi_items():
        # A lone surrogate: no answer could repeat it.
        if any("\ud800" <= letter <= "\udfff" for letter in f"{name}{value}"):
            raise MalformedFormError(_NO_TEXT)
        if name not in field_names | {"image"}:
            raise UnexpectedFieldError(
                f"The form has an unknown field '{name[:100]}'. The picture is expected in a "
                f"field named 'image'; other fields may be {', '.join(sorted(field_names))}."
            )
        if counts[name] > 1:
            raise RepeatedFieldError(
                f"The form has the field '{name}' {counts[name]} times. Send one picture, and "
                "each option once."
            )
        if name != "image" and isinstance(value, UploadFile):
            raise UnexpectedFieldError(
                f"The field '{name}' is an option and holds a file. Only 'image' is a file."
            )
