"""What all parts of the results document are made of. Knows no measure."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["IF_ANY", "Estimate", "Record", "is_absent"]


def is_absent(value: object) -> bool:
    """Tell whether a field has nothing to say: its key is then left out of the document."""
    return value is None or value == {}


IF_ANY = Field(exclude_if=is_absent)
"""A field whose key is left out where it has nothing to say."""


class Record(BaseModel):
    """A frozen part of the document, dumped by its JSON keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Estimate(Record):
    """A value and the ends of its 95 % interval; None where too few images count."""

    value: float | None
    low: float | None
    high: float | None
