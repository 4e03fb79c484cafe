"""Reads a multipart form: its files in the field `image`, and its other fields as text.

`app.api.uploads` counts the bytes while they arrive; this counts the form's parts. Nothing goes
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
    RepeatedFieldError,
    TooManyImagesError,
    UnexpectedFieldError,
)

__all__ = ["FORM_EXAMPLE", "Form", "NamedImage", "read_form", "too_many"]

FORM_EXAMPLE = "For example: curl -F image=@photo.jpg http://localhost:8000/caption"

# Beyond the images that there may be: enough to say which field is one too many.
_MORE_FILES = 3
_MAX_FIELDS = 16
_MAX_FIELD_BYTES = 1024
_LONGEST_NAME = 255
_NO_TEXT = "The multipart form cannot be read: it is not in the charset that it names. Send UTF-8."

_TEXT_NOT_FILE = (
    "The field 'image' holds text, not a file. With curl, put @ before the path: -F "
    "image=@photo.jpg"
)


@dataclass(frozen=True, slots=True)
class NamedImage:
    """The bytes of an image, and the name of the file that it was, where one was sent."""

    data: bytes
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """The images of a form, in order, and its other fields."""

    images: list[NamedImage]
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
            return f"it has more than {self.max_files:g} files."
        if self._current_fields > self.max_fields:
            return f"it has more than {self.max_fields:g} fields that are no files."
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


async def read_form(
    request: Request, field_names: frozenset[str], *, max_images: int | None = None
) -> Form:
    """Read a form that has at least one image.

    field_names: the options that there may be.
    max_images: the most images that there may be, where several are taken; None takes one.
    Raises MissingImageError, ImageNotAFileError, UnexpectedFieldError, RepeatedFieldError,
    TooManyImagesError, MalformedFormError, and what is raised as the body arrives.
    """
    form = await _parse(request, max_images)
    try:
        _check_names(form, field_names, max_images)
        images = [await _read_image(part) for part in form.getlist("image")]
        if not images:
            raise MissingImageError(f"The form has no field named 'image'. {FORM_EXAMPLE}")
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        return Form(images, fields)
    finally:
        await form.close()


async def _read_image(part: UploadFile | str) -> NamedImage:
    # A name in an odd charset may become "image" only when it is decoded: that part is text.
    if not isinstance(part, UploadFile):
        raise ImageNotAFileError(_TEXT_NOT_FILE)
    data = await part.read()
    await part.close()  # several large ones would be in memory twice
    if not part.filename and _is_short_text(data):
        raise ImageNotAFileError(_TEXT_NOT_FILE)
    name = (part.filename or "")[:_LONGEST_NAME]
    # A lone surrogate, which an odd charset can give: no answer could repeat it.
    return NamedImage(data, name.encode("utf-8", "replace").decode() or None)


def too_many(found: int | None, max_images: int) -> str:
    """Say that a request has more images than it may; `found` is None where nobody counted on."""
    has = "more pictures than it may" if found is None else f"{found} pictures"
    return f"The request has {has}; at most {max_images} are accepted. Send them in several."


def _is_short_text(data: bytes) -> bool:
    """Tell whether a part without a file name is a path or other text, rather than an image."""
    try:
        return 0 < len(data) <= _MAX_FIELD_BYTES and data.decode().isprintable()
    except UnicodeDecodeError:
        return False


async def _parse(request: Request, max_images: int | None) -> FormData:
    parser = _InMemoryParser(
        request.headers,
        request.stream(),
        max_files=(max_images or 1) + _MORE_FILES,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        if max_images is not None and error.message.startswith("Too many files"):
            raise TooManyImagesError(too_many(None, max_images)) from error
        raise MalformedFormError(
            f"The multipart form cannot be read: {parser.fault(error)} {FORM_EXAMPLE}"
        ) from error
    except UnicodeError as error:
        raise MalformedFormError(_NO_TEXT) from error


def _check_names(form: FormData, field_names: frozenset[str], max_images: int | None) -> None:
    """Raise UnexpectedFieldError, RepeatedFieldError, TooManyImagesError or MalformedFormError
    unless each field is known, there as often as it may be, and readable."""
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
        if name == "image" and max_images is not None:
            if counts[name] > max_images:
                raise TooManyImagesError(too_many(counts[name], max_images))
        elif counts[name] > 1:
            raise RepeatedFieldError(
                f"The form has the field '{name}' {counts[name]} times. Send one picture, and "
                "each option once; POST /caption/batch takes several pictures."
            )
        if name != "image" and isinstance(value, UploadFile):
            raise UnexpectedFieldError(
                f"The field '{name}' is an option and holds a file. Only 'image' is a file."
            )
