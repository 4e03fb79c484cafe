"""What came of a file, told in the words in which outcomes are declared."""

from collections.abc import Sequence
from functools import cache

from PIL import Image

from tests.corpus.case import Captioned, Case, Color, Refused

__all__ = ["built", "differences", "quarters"]


@cache
def built(case: Case) -> bytes:
    """The bytes of a case, made once."""
    return case.build()


def quarters(rgb: Image.Image) -> tuple[Color, ...]:
    """The color in the middle of each quarter, from top left to bottom right."""
    colors = []
    for y in (1, 3):
        for x in (1, 3):
            pixel = rgb.getpixel((rgb.width * x // 4, rgb.height * y // 4))
            assert isinstance(pixel, tuple)
            colors.append((int(pixel[0]), int(pixel[1]), int(pixel[2])))
    return tuple(colors)


def differences(
    declared: Captioned | Refused,
    *,
    code: str | None,
    size: tuple[int, int] | None = None,
    colors: Sequence[Color] | None = None,
    warnings: Sequence[str] = (),
) -> list[str]:
    """Where an outcome is not what is declared. `code` is None where the file was captioned."""
    if isinstance(declared, Refused):
        return [] if code == declared.code else [f"{code} instead of {declared.code}"]
    if code is not None:
        return [f"{code} instead of a caption"]
    found = []
    if declared.size is not None and size != declared.size:
        found.append(f"{size} pixels instead of {declared.size}")
    if declared.colors is not None and colors is not None:
        off = max(
            abs(one - other)
            for seen, right in zip(colors, declared.colors, strict=True)
            for one, other in zip(seen, right, strict=True)
        )
        if off > declared.tolerance:
            found.append(f"{colors} instead of {declared.colors}")
    if bool(warnings) != declared.warns:
        found.append(f"warnings {list(warnings)}")
    return found
