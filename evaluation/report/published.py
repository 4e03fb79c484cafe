"""The scores that papers printed, read from published.toml. Measures nothing."""

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

__all__ = ["PublishedRow", "published_rows"]


class PublishedRow(BaseModel):
    """One printed row.

    scores: fractions, by the names that `evaluation.metrics` gives them; absent if not printed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    source: str
    scores: dict[str, float]

    @property
    def title(self) -> str:
        """The row's first cell."""
        return f"*published:* {self.model}, {self.source}"


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """Read all rows, in order."""
    text = Path(__file__).with_name("published.toml").read_text(encoding="utf-8")
    return tuple(PublishedRow.model_validate(row) for row in tomllib.loads(text)["rows"])
