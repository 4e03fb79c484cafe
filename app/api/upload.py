"""Reads an upload: images and the options beside them, from whichever kind of body was sent.

* a multipart form with files in the field `image`;
* a JSON object with an image in base64 in the member `image`, or the member `url`, which names
  where an image lies; or several images in the member `images`;
* the bytes of one image themselves, without options.

`app.api.uploads` counts the bytes while they arrive. Nothing goes to disk, nothing is fetched, and
no image is opened.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from app.api.base64_image import decode_image_text
from app.api.form_body import FORM_EXAMPLE, NamedImage, read_form, too_many
from app.api.json_body import JSON_EXAMPLE, read_json_object
from app.api.upload_places import PLACE_IN_SCOPE, Place
from app.core.errors import (
    BodyTooLargeError,
    BodyTypeError,
    MissingImageError,
    TooManyImagesError,
    TwoImagesError,
    UnexpectedFieldError,
    UrlFetchingOffError,
)

__all__ = ["ImageUrl", "Upload", "Uploads", "check_size", "hold", "read_upload", "read_uploads"]

_FORM, _JSON, _BYTES = "multipart/form-data", "application/json", "application/octet-stream"
_SENT_BY_CURL = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """Where an image lies that is not fetched yet; nothing about the text is checked."""

    url: str


@dataclass(frozen=True, slots=True)
class Upload:
    """One image, and the other fields: as text from a form, typed from JSON."""

    image: bytes | ImageUrl
    fields: Mapping[str, Any]
    are_typed: bool


@dataclass(frozen=True, slots=True)
class Uploads:
    """Several images, in order, and the other fields."""

    images: list[NamedImage]
    fields: Mapping[str, Any]
    are_typed: bool


async def read_upload(
    request: Request, field_names: frozenset[str], *, accepts_urls: bool, max_bytes: int
) -> Upload:
    """Read an image, or where it lies, and the options.

    field_names: the options that there may be.
    accepts_urls: whether the operator has turned fetching on.
    max_bytes: of the image itself.
    Raises the RequestErrors of a body, and BodyTooLargeError or BodyTimeoutError as it arrives.
    """
    media_type = _media_type(request)
    if media_type == _FORM:
        form = await read_form(request, field_names)
        return Upload(form.images[0].data, form.fields, are_typed=False)
    if media_type == _JSON:
        upload = _read_members(await read_json_object(request), field_names, accepts_urls)
    elif media_type == _BYTES or media_type.startswith("image/"):
        upload = Upload(await request.body(), {}, are_typed=False)
    else:
        raise _of_no_known_type(request, media_type)
    if isinstance(upload.image, bytes):
        check_size(upload.image, max_bytes)
        if upload.are_typed:
            hold(request, upload.image)
    return upload


async def read_uploads(
    request: Request, field_names: frozenset[str], *, max_images: int
) -> Uploads:
    """Read several images and the options, from a form or from JSON; none is larger than the body.

    Raises as `read_upload` does, and TooManyImagesError.
    """
    media_type = _media_type(request)
    if media_type == _FORM:
        form = await read_form(request, field_names, max_images=max_images)
        return Uploads(form.images, form.fields, are_typed=False)
    if media_type != _JSON:
        raise BodyTypeError(
            f"Pictures are expected in a multipart form, or in JSON, but the body is "
            f"{_shown_type(request)}. For example: curl -F image=@a.jpg -F image=@b.jpg "
            "http://localhost:8000/caption/batch"
        )
    document = await read_json_object(request)
    texts = _take_texts(document, field_names, max_images)
    images = []
    for position, text in enumerate(texts):
        images.append(NamedImage(decode_image_text(text, f"Picture {position + 1} of 'images'")))
        hold(request, images[-1].data)
        await asyncio.sleep(0)  # others have their turn between two
    return Uploads(images, _given(document), are_typed=True)


def check_size(image: bytes, max_bytes: int) -> None:
    """Raise BodyTooLargeError for an image that is larger than one may be."""
    if len(image) > max_bytes:
        raise BodyTooLargeError(
            f"The picture is {len(image)} bytes; at most {max_bytes} are accepted. Send a smaller "
            "copy of the picture."
        )


def hold(request: Request, image: bytes) -> None:
    """Count an image that is in memory beside its request's body, until the request is answered.

    Raises UploadMemoryFullError.
    """
    place = request.scope.get(PLACE_IN_SCOPE)
    if isinstance(place, Place):
        place.hold(len(image))


def _media_type(request: Request) -> str:
    """Give the type of the body, without parameters.

    Raises MissingImageError without a body, and BodyTypeError for a compressed one: what it unpacks
    to could be a thousand times as large.
    """
    if (
        request.headers.get("content-length", "0") == "0"
        and "transfer-encoding" not in request.headers
    ):
        raise MissingImageError(f"The request has no body. {FORM_EXAMPLE}")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise BodyTypeError(
            f"The body is compressed (Content-Encoding: '{encoding[:100]}'), which is not read "
            f"here. Send it as it is. {FORM_EXAMPLE}"
        )
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _shown_type(request: Request) -> str:
    content_type = request.headers.get("content-type", "")
    return f"'{content_type[:100]}'" if content_type else "of no stated type"


def _of_no_known_type(request: Request, media_type: str) -> BodyTypeError:
    hint = ""
    if media_type in ("", _SENT_BY_CURL):
        hint = "To send the picture as it is, say what it is: -H 'Content-Type: image/jpeg'. "
    return BodyTypeError(
        "The picture is expected as it is (image/…), in a multipart form, or in JSON, but the body "
        f"is {_shown_type(request)}. {hint}{FORM_EXAMPLE}"
    )


def _read_members(
    document: dict[str, Any], field_names: frozenset[str], accepts_urls: bool
) -> Upload:
    """Take the image, or its URL, and the options of a JSON object; null counts as left out."""
    _check_members(document, field_names, {"image", "url"})
    image, url = document.pop("image", None), document.pop("url", None)
    if image is not None and url is not None:
        raise TwoImagesError("The JSON has both 'image' and 'url'. Give one of them.")
    if url is not None and not accepts_urls:
        raise UrlFetchingOffError(
            "This service fetches no pictures by URL: its operator has not turned that on. Send "
            f"the picture itself. {FORM_EXAMPLE}"
        )
    if isinstance(url, str) and url.strip():
        return Upload(ImageUrl(url), _given(document), are_typed=True)
    if isinstance(image, str):
        data = decode_image_text(image, "The member 'image'")
        return Upload(data, _given(document), are_typed=True)
    more = ", nor one named 'url' that is its address" if accepts_urls else ""
    raise MissingImageError(
        f"The JSON has no member named 'image' that is a picture in base64{more}. {JSON_EXAMPLE}"
    )


def _take_texts(
    document: dict[str, Any], field_names: frozenset[str], max_images: int
) -> list[str]:
    """Take the images out of a JSON object, as the texts that they are, and leave the options."""
    _check_members(document, field_names, {"images"})
    texts = document.pop("images", None)
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise MissingImageError(
            "The JSON has no member named 'images' that is a list of pictures, each a text in "
            'base64. For example: {"images": ["/9j/4AAQSkZJRg…"]}'
        )
    if len(texts) > max_images:
        raise TooManyImagesError(too_many(len(texts), max_images))
    return texts


def _check_members(
    document: dict[str, Any], field_names: frozenset[str], of_images: set[str]
) -> None:
    for name in document:
        if name not in field_names | of_images:
            raise UnexpectedFieldError(
                f"The JSON has an unknown member '{name[:100]}'. The picture is expected in a "
                f"member named {' or '.join(sorted(map(repr, of_images)))}; others may be "
                f"{', '.join(sorted(field_names))}."
            )


def _given(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}
