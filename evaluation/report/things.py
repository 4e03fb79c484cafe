"""The sixty things that people upload, read from sixty.toml. Knows no images and no models."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["UNSURE_KINDS", "Kind", "Thing", "read_things"]

Kind = Literal["photo", "screenshot", "text", "drawing", "noise", "plain"]

UNSURE_KINDS: tuple[Kind, ...] = ("text", "drawing", "noise", "plain")
"""Kinds of which the model was taught nothing: its captions should be unsure of themselves."""

_Words = Annotated[tuple[str, ...], Field(min_length=1)]


class Thing(BaseModel):
    """One thing, and where its picture comes from: one of `file`, `made` and `words`.

    name: in words, unique. file: of scikit-image's data. made: the function that draws it. words:
    what captions say of it, by which an everyday photo is chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind = "photo"
    file: str | None = None
    made: str | None = None
    words: _Words | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = [each for each in (self.file, self.made, self.words) if each is not None]
        if len(given) != 1:
            raise ValueError(f"{self.name!r} needs one of file, made and words.")
        return self

    @property
    def may_be_shown(self) -> bool:
        """Whether its picture may be passed on."""
        return self.words is None


class _Things(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    things: tuple[Thing, ...]


@cache
def read_things() -> tuple[Thing, ...]:
    """Read sixty.toml."""
    text = Path(__file__).with_name("sixty.toml").read_text(encoding="utf-8")
    return _Things.model_validate(tomllib.loads(text)).things
