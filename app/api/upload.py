"""Reads an upload: one multipart form with one image in the field `image`, and options beside it.

`app.api.middleware` counts the bytes while they arrive; this counts the form's parts. Nothing goes
to disk, and no image is opened.
"""

from collections import Counter
from dataclasses import dataclass

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.core.errors import (
    ImageNotAFileError,
    MalformedFormError,
    MissingImageError,
    NotMultipartError,
    RepeatedFieldError,
    UnexpectedFieldError,
)

__all__ = ["Upload", "read_upload"]

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
class Upload:
    """The bytes of one image file, and the form's other fields as text."""

    image: bytes
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

    def on_headers_finished(self) -> None:
        """Take the part named `image` for a file, also where no file name was sent with it.

        `curl -F 'image=<photo.jpg'`, and several clients in other languages, send none.
        """
        part = self._current_part
        options = parse_options_header(part.content_disposition)[1]
        if options.get(b"name") == b"image" and b"filename" not in options:
            part.content_disposition = (part.content_disposition or b"") + b'; filename=""'
        super().on_headers_finished()


async def read_upload(request: Request, field_names: frozenset[str]) -> Upload:
    """Read the image and the options of a form.

    field_names: the options that the form may have.
    Raises the RequestErrors of a form, and BodyTooLargeError or BodyTimeoutError as it arrives.
    """
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
    content_type = request.headers.get("content-type", "")
    if (
        request.headers.get("content-length", "0") == "0"
        and "transfer-encoding" not in request.headers
    ):
        raise MissingImageError(f"The request has no body. {_EXAMPLE}")
    if content_type.split(";")[0].strip().lower() != "multipart/form-data":
        found = f"'{content_type[:100]}'" if content_type else "of no stated type"
        raise NotMultipartError(
            f"The picture is expected in a multipart form, but the body is {found}. {_EXAMPLE}"
        )
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
            f"The multipart form cannot be read: {error.message} {_EXAMPLE}"
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
