"""Valid files, damaged at random but the same on every machine. Knows no decoder."""

import random
import struct
from collections.abc import Iterator

from tests.unit.image_files import FILES

__all__ = ["mutations"]

HEADER_BYTES = 200
LENGTHS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def flipped(data: bytearray, chance: random.Random) -> None:
    """Change one to eight bytes; every second one in the header, where parsers go wrong."""
    for _ in range(chance.randint(1, 8)):
        end = min(HEADER_BYTES, len(data)) if chance.random() < 0.5 else len(data)
        data[chance.randrange(end)] = chance.randrange(256)


def cut(data: bytearray, chance: random.Random) -> None:
    """Leave out the end."""
    del data[chance.randrange(1, len(data)) :]


def holed(data: bytearray, chance: random.Random) -> None:
    """Leave out up to 40 bytes in the middle."""
    start = chance.randrange(len(data))
    del data[start : start + chance.randint(1, 40)]
    data.extend(b"\0" * (not data))


def spliced(data: bytearray, chance: random.Random) -> None:
    """Put a piece of another file over or between the bytes."""
    other = chance.choice(list(FILES.values()))
    start = chance.randrange(len(other))
    piece = other[start : start + chance.randint(1, 300)]
    at = chance.randrange(len(data))
    data[at : at + chance.choice((0, len(piece)))] = piece


def measured(data: bytearray, chance: random.Random) -> None:
    """Write an odd length or count over two or four bytes, in either byte order."""
    value = chance.choice(LENGTHS)
    form = chance.choice("<>") + chance.choice("HI")
    width = struct.calcsize(form)
    end = min(HEADER_BYTES, len(data)) if chance.random() < 0.7 else len(data)
    at = chance.randrange(max(1, end - width))
    data[at : at + width] = struct.pack(form, value & (256**width - 1))


def shuffled(data: bytearray, chance: random.Random) -> None:
    """Exchange two pieces of the same length, as chunks out of their order are."""
    size = chance.randint(1, max(1, len(data) // 4))
    first, second = sorted(chance.randrange(max(1, len(data) - size)) for _ in range(2))
    if first + size <= second:
        one, other = data[first : first + size], data[second : second + size]
        data[first : first + size], data[second : second + size] = other, one


def repeated(data: bytearray, chance: random.Random) -> None:
    """Put a piece there twice to twenty times."""
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randint(1, 200)]
    data[start:start] = piece * chance.randint(1, 20)


KINDS = (flipped, cut, holed, spliced, measured, shuffled, repeated)


def mutations(count: int, seed: int = 11) -> Iterator[tuple[str, bytes]]:
    """Give so many damaged files, each with the name of what it was: every format in turn."""
    chance = random.Random(seed)
    names = list(FILES)
    for number in range(count):
        name = names[number % len(names)]
        data = bytearray(FILES[name])
        for _ in range(chance.choice((1, 1, 2, 3))):
            chance.choice(KINDS)(data, chance)
        yield name, bytes(data)
