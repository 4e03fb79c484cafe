"""The bodies of uploads in the OpenAPI document. Knows no errors and no answers."""

from copy import deepcopy
from typing import Any

from app.api.options import CaptionOptions

__all__ = ["batch_body", "upload_body"]

_FILE: dict[str, Any] = {
    "type": "string",
    "format": "binary",
    "description": "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC, unless this service accepts "
    "fewer; the first frame of an animation",
}
_TEXT: dict[str, Any] = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "a picture in base64, or as a data URI (data:image/jpeg;base64,…)",
}
_URL: dict[str, Any] = {
    "type": "string",
    "format": "uri",
    "minLength": 1,
    "maxLength": 4096,
    "description": "address of a picture on the public internet, http or https, where the operator "
    "has turned that on",
}
_URL_EXAMPLE = "https://example.org/photo.jpg"
# A whole picture: 16 x 16 pixels, all the same.
_TEXT_EXAMPLE = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAGUlEQVR4nGOM6rFhIAUwkaR6VMOohiGlAQCqNwFCW+hR"
    "LAAAAABJRU5ErkJggg=="
)


def upload_body(options: type[CaptionOptions]) -> dict[str, Any]:
    """Document the bodies of a route that takes one image and these options: the form first, which
    Swagger UI offers first."""
    example = {"image": _TEXT_EXAMPLE}
    return _body(
        "A form with one picture; or a JSON object with the picture in base64, or with its "
        "address; or the bytes of the picture themselves. The options may also be fields of the "
        "form or members of the object, instead of parameters.",
        {
            "multipart/form-data": _object({"image": _FILE}, required=["image"]),
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"image": _TEXT, "url": _URL, **_json_options(options)},
                    "additionalProperties": False,
                    "oneOf": [{"required": ["image"]}, {"required": ["url"]}],
                },
                "examples": {
                    "image": {"summary": "A picture in base64", "value": example},
                    "options": {"summary": "With options", "value": example | {"num_captions": 3}},
                    "url": {"summary": "A picture's address", "value": {"url": _URL_EXAMPLE}},
                },
            },
            "image/*": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
        },
    )


def batch_body(options: type[CaptionOptions]) -> dict[str, Any]:
    """Document the bodies of a route that takes several images and these options."""
    files = {"type": "array", "items": _FILE, "minItems": 1}
    texts = {"type": "array", "items": _TEXT, "minItems": 1}
    return _body(
        "A form with a field `image` for each picture; or a JSON object with the pictures in "
        "base64. The options may also be fields of the form or members of the object, instead of "
        "parameters.",
        {
            "multipart/form-data": _object({"image": files}, required=["image"]),
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"images": texts, **_json_options(options)},
                    "additionalProperties": False,
                    "required": ["images"],
                },
                "example": {"images": [_TEXT_EXAMPLE, _TEXT_EXAMPLE]},
            },
        },
    )


def _body(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "description": description, "content": content}}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"schema": {"type": "object", "required": required, "properties": properties}}


def _json_options(options: type[CaptionOptions]) -> dict[str, Any]:
    """Describe options as members of a JSON object, where null counts as left out."""
    schema = options.model_json_schema(ref_template="#/components/schemas/{model}")
    members = deepcopy(schema["properties"])
    for member in members.values():
        member.pop("default", None)
        if "$ref" in member:
            member["anyOf"] = [{"$ref": member.pop("$ref")}, {"type": "null"}]
        else:
            member["type"] = [member["type"], "null"]
    return dict(members)
