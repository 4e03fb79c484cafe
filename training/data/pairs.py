"""Sentences and their translations, read from files of lines. Knows no subwords and no tensors."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.errors import ConfigError

__all__ = ["PairsConfig", "SentencePair", "hold_out", "read_all_pairs", "read_lines", "read_pairs"]

_GZIP = b"\x1f\x8b"


class PairsConfig(BaseModel):
    """Where pairs lie: one file with a tab in each line, or two files of the same number of lines.

    Any of them may be compressed by gzip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    pairs: Annotated[
        Path | None, Field(description="lines of source, tab, target; instead of the next two")
    ] = None
    source: Annotated[Path | None, Field(description="the source sentences, one a line")] = None
    target: Annotated[Path | None, Field(description="their translations, one a line")] = None
    weight: Annotated[
        float, Field(gt=0, description="how often a pair is taken in an epoch, on average")
    ] = 1.0

    @model_validator(mode="after")
    def _one_layout(self) -> Self:
        """Refuse files of both layouts, and half of one."""
        has_two = self.source is not None and self.target is not None
        has_any = self.source is not None or self.target is not None
        if self.pairs is None and not has_two:
            raise ValueError("must name one file as pairs, or two as source and target")
        if self.pairs is not None and has_any:
            raise ValueError("pairs: leave out source and target, or leave out pairs")
        return self

    def below(self, folder: Path) -> "PairsConfig":
        """Give the same with its files below `folder`."""
        placed = {
            field: folder / path
            for field in ("pairs", "source", "target")
            if (path := getattr(self, field)) is not None
        }
        return self.model_copy(update=placed)


@dataclass(frozen=True, slots=True)
class SentencePair:
    """A sentence and its translation, neither of them empty.

    weight: how often it is taken in an epoch, on average.
    """

    source: str
    target: str
    weight: float = 1.0


def read_all_pairs(configs: Iterable[PairsConfig]) -> list[SentencePair]:
    """Read the pairs of several sets, one behind the other. Raises ConfigError."""
    return [pair for config in configs for pair in read_pairs(config)]


def read_pairs(config: PairsConfig) -> list[SentencePair]:
    """Read the pairs of a set, in the order of their lines.

    Raises ConfigError where a file cannot be read, has no lines or an empty one, where a line has
    not exactly one tab, and where two files differ in length.
    """
    texts = list(_tabbed(config.pairs) if config.pairs is not None else _parallel(config))
    if not texts:
        raise ConfigError(f"The set '{config.name}' has no lines.")
    return [SentencePair(source, target, config.weight) for source, target in texts]


def hold_out(
    pairs: Sequence[SentencePair], count: int
) -> tuple[list[SentencePair], list[SentencePair]]:
    """Part pairs into those to learn from and `count` to choose by, evenly spaced.

    A source that is held out is not learnt from in another pair either. Raises ConfigError where
    too few are left.
    """
    places = {place * len(pairs) // count for place in range(count)}
    held = [pairs[place] for place in sorted(places)]
    unseen = {pair.source for pair in held}
    rest = [pair for pair in pairs if pair.source not in unseen]
    if len(rest) < len(held):
        raise ConfigError(
            f"hold_out: {count} of {len(pairs)} pairs leave {len(rest)} to learn from. Hold out "
            "fewer."
        )
    return rest, held


def _parallel(config: PairsConfig) -> Iterator[tuple[str, str]]:
    assert config.source is not None
    assert config.target is not None
    sources, targets = read_lines(config.source), read_lines(config.target)
    if len(sources) != len(targets):
        raise ConfigError(
            f"{config.source} has {len(sources)} lines and {config.target} {len(targets)}: line "
            "for line, one must be the other's translation."
        )
    for path, lines in ((config.source, sources), (config.target, targets)):
        for number, line in enumerate(lines, 1):
            _refuse_empty(line, path, number)
    yield from zip(sources, targets, strict=True)


def _tabbed(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_lines(path), 1):
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) != 2:
            raise ConfigError(
                f"{path}, line {number}: must be a sentence, one tab and its translation."
            )
        for part in parts:
            _refuse_empty(part, path, number)
        yield parts[0], parts[1]


def _refuse_empty(text: str, path: Path, number: int) -> None:
    if not text:
        raise ConfigError(f"{path}, line {number}: is empty. Take the pair out of the data.")


def read_lines(path: Path) -> list[str]:
    """Read the lines of a file, compressed or not, without the spaces around them.

    Raises ConfigError where it cannot be read.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (OSError, EOFError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text.") from error
    lines = text.removesuffix("\n").split("\n") if text else []
    return [line.strip(" \r\u00a0") for line in lines]
