"""The options of a request, as query parameters or as fields of the form. Their bounds are the
library's; knows no model."""

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Le
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from app.api.schemas import WrongOption
from models.config import DecodingOptions
from models.errors import OptionsError

__all__ = [
    "AttentionOptions",
    "CaptionOptions",
    "Include",
    "OverlayFormat",
    "check_given_once",
    "describe_invalid_options",
    "merge_options",
]

# What a request may set; whether echoes are avoided is the model's own.
_DECODING = tuple(name for name in DecodingOptions.model_fields if name != "avoid_echoes")


def _bounds(name: str) -> tuple[float, float] | None:
    """Look up the least and the greatest value of a decoding option; None for other names."""
    if name not in _DECODING:
        return None
    metadata = DecodingOptions.model_fields[name].metadata
    least = next(bound.ge for bound in metadata if isinstance(bound, Ge))
    greatest = next(bound.le for bound in metadata if isinstance(bound, Le))
    return float(str(least)), float(str(greatest))


def _within(name: str) -> Any:
    """Make the type of a field out of the library's bounds of a decoding option."""
    field = DecodingOptions.model_fields[name]
    bounds = _bounds(name)
    assert bounds is not None
    least, greatest = bounds if field.annotation is float else map(int, bounds)
    return Field(ge=least, le=greatest)


def _left_out(name: str) -> Any:
    """Describe a decoding option that a request may leave out."""
    field = DecodingOptions.model_fields[name]
    bounds = _bounds(name)
    assert bounds is not None
    return Field(
        None,
        description=f"{field.description}; {bounds[0]:g} to {bounds[1]:g}; left out, the model's "
        f"own default (often {field.default})",
    )


class Include(StrEnum):
    """What an answer may have beside the caption."""

    objects = "objects"


class CaptionOptions(BaseModel):
    """The options of `POST /caption`. An unknown or misspelt one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[
        Annotated[str, Field(max_length=100)] | SkipJsonSchema[None],
        Field(
            description="which model of `GET /models`, loaded at its first use; left out, the "
            "default one"
        ),
    ] = None
    beam_size: Annotated[int, _within("beam_size")] | SkipJsonSchema[None] = _left_out("beam_size")
    num_captions: Annotated[int, _within("num_captions")] | SkipJsonSchema[None] = _left_out(
        "num_captions"
    )
    max_length: Annotated[int, _within("max_length")] | SkipJsonSchema[None] = _left_out(
        "max_length"
    )
    length_penalty: Annotated[float, _within("length_penalty")] | SkipJsonSchema[None] = _left_out(
        "length_penalty"
    )

    include: Annotated[
        Include | SkipJsonSchema[None],
        Field(description="`objects`: list the objects and concepts that the model found as well"),
    ] = None

    def decoding(self, defaults: DecodingOptions) -> DecodingOptions:
        """Lay the request's options over the model's defaults.

        Raises OptionsError if the two contradict each other.
        """
        given = self.model_dump(include=set(_DECODING), exclude_none=True)
        options = defaults.model_copy(update=given)
        if options.num_captions > options.beam_size:
            raise OptionsError(
                f"num_captions is {options.num_captions}, but beam_size is {options.beam_size}: a "
                "search returns at most as many captions as it keeps. Raise beam_size or lower "
                "num_captions."
            )
        return options


class OverlayFormat(StrEnum):
    """What `POST /attention` answers with."""

    json = "json"
    png = "png"


class AttentionOptions(CaptionOptions):
    """The options of `POST /attention`."""

    format: Annotated[
        OverlayFormat | SkipJsonSchema[None],
        Field(
            description="`json` for numbers, `png` for a drawing; left out, the `Accept` header "
            "decides"
        ),
    ] = None
    word: Annotated[
        Annotated[int, Field(ge=0, le=49)] | SkipJsonSchema[None],
        Field(
            description="with `png`: draw only the map of this word of the caption, counted from 0"
        ),
    ] = None

    def wants_png(self, accept: str) -> bool:
        """Decide whether to draw. Raises OptionsError if a word is chosen but nothing is drawn."""
        png = self.format is OverlayFormat.png if self.format else _prefers_png(accept)
        if self.word is not None and not png:
            raise OptionsError(
                "word chooses one map of the drawing, but JSON was asked for: add format=png."
            )
        return png

    def check_word(self, words: int) -> None:
        """Raise OptionsError if the caption has no such word."""
        if self.word is not None and self.word >= words:
            raise OptionsError(
                f"word is {self.word}, but the caption has {words} words: 0 to {words - 1} exist."
            )


def check_given_once(names: Iterable[str]) -> None:
    """Raise OptionsError if the address has an option twice."""
    for name, count in Counter(names).items():
        if count > 1:
            raise OptionsError(f"{name} is {count} times in the address. Give it once.")


Options = TypeVar("Options", bound=CaptionOptions)


def merge_options(query: Options, fields: Mapping[str, Any], *, are_typed: bool) -> Options:
    """Merge the query's options with those of the body; an empty text counts as left out.

    are_typed: the body is JSON, where a number is a number; else all are texts.
    Raises RequestValidationError, and OptionsError if an option is given twice and differently.
    """
    try:
        if are_typed:
            body = type(query).model_validate_json(json.dumps(fields), strict=True)
        else:
            given = {name: value for name, value in fields.items() if value.strip()}
            body = type(query).model_validate(given)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    in_query = query.model_dump(exclude_none=True)
    in_body = body.model_dump(exclude_none=True)
    for name in sorted(in_query.keys() & in_body.keys()):
        if in_query[name] != in_body[name]:
            raise OptionsError(
                f"{name} is {in_query[name]} in the address but {in_body[name]} in the body. Give "
                "it once."
            )
    return query.model_copy(update={name: getattr(body, name) for name in in_body})


def describe_invalid_options(errors: Any) -> list[WrongOption]:
    """Say Pydantic's errors in words: which option, what it may be, and what it was."""
    # An option that may be left out is "a number or nothing": that it is not nothing is no news.
    return [_describe(error) for error in errors if error["type"] != "none_required"]


def _describe(error: dict[str, Any]) -> WrongOption:
    name = next(
        (part for part in error["loc"] if part not in ("query", "path", "body", "header")),
        "request",
    )
    bounds = _bounds(str(name))
    value = error.get("input")
    given = (value if isinstance(value, str) else json.dumps(value, default=str))[:100]
    message = str(error["msg"])
    if error["type"] == "extra_forbidden":
        nearest = next(
            iter(difflib.get_close_matches(str(name), AttentionOptions.model_fields, n=1)), None
        )
        hint = f"Did you mean {nearest}?" if nearest else "See /docs."
        return WrongOption(
            option=str(name), message=f"There is no option named {str(name)[:100]} here. {hint}"
        )
    if bounds is None:
        return WrongOption(
            option=str(name), message=f"{name} is '{given}': {message[:1].lower()}{message[1:]}."
        )
    return WrongOption(
        option=str(name),
        message=f"{name} must be {bounds[0]:g} to {bounds[1]:g}, but is '{given}' "
        f"({message[:1].lower()}{message[1:]}).",
    )


def _prefers_png(accept: str) -> bool:
    """Decide whether an Accept header prefers PNG to JSON; a tie, `*/*` and none mean JSON."""
    png = _quality(accept, "image/png", "image/*")
    return png > _quality(accept, "application/json", "application/*", "*/*")


def _quality(accept: str, *media_ranges: str) -> float:
    """Find the greatest q that the header gives to any of the ranges; 0 if it names none."""
    best = 0.0
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_range in media_ranges:
            texts = [
                parameter.removeprefix("q=")
                for parameter in parameters
                if parameter.startswith("q=")
            ]
            best = max(best, _as_float(texts[0]) if texts else 1.0)
    return best


def _as_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
