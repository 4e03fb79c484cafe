"""The corpus: every awkward file, and what is declared to come of it."""

from tests.corpus import (
    animations,
    avif_heif,
    bmp,
    bombs,
    jpeg,
    orientation,
    others,
    png,
    polyglots,
    sizes,
    tiff,
    truncated,
)
from tests.corpus.case import Case, Group, cases_of

__all__ = ["CASES", "GROUPS"]

GROUPS: tuple[Group, ...] = (
    *orientation.GROUPS,
    *jpeg.GROUPS,
    *png.GROUPS,
    *animations.GROUPS,
    *tiff.GROUPS,
    *bmp.GROUPS,
    *avif_heif.GROUPS,
    *truncated.GROUPS,
    *sizes.GROUPS,
    *bombs.GROUPS,
    *polyglots.GROUPS,
    *others.GROUPS,
)
CASES: tuple[Case, ...] = tuple(cases_of(GROUPS))
