"""Every format cut off at each tenth of its bytes, and JPEG cut off in the ways of its own."""

from functools import cache, partial

from tests.corpus.avif_heif import heic
from tests.corpus.case import Captioned, Case, Group, Refused
from tests.unit.image_files import FILES, encoded, textured

DAMAGED = Refused("damaged-image")
SIZE = Captioned()
PARTIAL = Captioned(warns=True)
TALL = Captioned(size=(96, 480))
TALL_PARTIAL = Captioned(size=(96, 480), warns=True)
TENTHS = range(1, 10)
EOI = b"\xff\xd9"
MOVING = (
    "GIF animated",
    "JPEG multi-picture",
    "PNG animated",
)  # their first image ends behind the middle
WHOLE_FROM_TENTH = 6
# At half of this file the last lines of the first image are missing, just about a quarter of them.
ON_THE_BORDER = "JPEG multi-picture cut at 50 %"


@cache
def sources() -> dict[str, bytes]:
    """Whole files of noise, whose bytes lie as evenly as their lines."""
    tall = textured(96, 480)
    return FILES | {
        "HEIC": heic(),
        "JPEG tall": encoded(tall, "JPEG", quality=90, subsampling=0),
        "JPEG tall gray": encoded(tall.convert("L"), "JPEG", quality=90),
        "JPEG tall progressive": encoded(tall, "JPEG", quality=90, progressive=True),
    }


def cut(name: str, tenth: int, end: bytes = b"") -> bytes:
    """So many tenths of a file, and what is put behind them."""
    data = sources()[name]
    return data[: len(data) * tenth // 10] + end


def without_last(name: str, size: int) -> bytes:
    return sources()[name][:-size]


def cut_in_a_table() -> bytes:
    """A progressive JPEG that ends within the table in front of its last scan."""
    data = sources()["JPEG tall progressive"]
    return data[: data.rindex(b"\xff\xc4") + 10]


def cut_in_a_scan_header() -> bytes:
    """A progressive JPEG that ends within the header of its last scan."""
    data = sources()["JPEG tall progressive"]
    return data[: data.rindex(b"\xff\xda") + 5]


def announcing(height: int) -> bytes:
    """A JPEG of 480 lines that says that it has so many."""
    data = bytearray(sources()["JPEG tall"])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 7] = height.to_bytes(2, "big")
    return bytes(data)


def tenths(name: str, numbers: range, outcome: Captioned | Refused, end: bytes = b"") -> list[Case]:
    mark = " with an end mark" if end else ""
    return [
        Case(f"{name} cut at {tenth}0 %{mark}", partial(cut, name, tenth, end), outcome)
        for tenth in numbers
    ]


def still() -> list[str]:
    """The files of one image that are no JPEG, and those that cannot be shown before they end."""
    return [name for name in sources() if not name.startswith("JPEG") and name not in MOVING]


GROUPS = (
    Group(
        "PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC that is cut off",
        "refused: send the complete file",
        tuple(case for name in still() for case in tenths(name, TENTHS, DAMAGED)),
    ),
    Group(
        "an animation or file of several images that is cut off behind the first",
        "captioned",
        tuple(case for name in MOVING for case in tenths(name, range(WHOLE_FROM_TENTH, 10), SIZE)),
    ),
    Group(
        "an animation or file of several images that is cut off within the first",
        "refused: send the complete file",
        tuple(
            case
            for name in MOVING
            for case in tenths(name, range(1, WHOLE_FROM_TENTH), DAMAGED)
            if case.name != ON_THE_BORDER
        ),
    ),
    Group(
        "JPEG of one scan that lacks its end mark, or the last byte of it",
        "captioned: every browser shows it whole",
        tuple(
            Case(f"{name} without its last {size} bytes", partial(without_last, name, size), SIZE)
            for name in ("JPEG", "JPEG gray", "JPEG CMYK")
            for size in (1, 2)
        ),
    ),
    Group(
        "JPEG of one scan that is cut off, with or without an end mark behind the cut: at least "
        "three quarters of its lines are there",
        "captioned; the missing lines are gray, and `warnings` tells how much is missing",
        (
            *tenths("JPEG tall", range(9, 10), TALL_PARTIAL),
            *tenths("JPEG tall", range(9, 10), TALL_PARTIAL, EOI),
            *tenths("JPEG tall gray", range(9, 10), TALL_PARTIAL),
            *tenths("JPEG tall gray", range(9, 10), TALL_PARTIAL, EOI),
            Case(
                "JPEG of 480 lines that says 500",
                partial(announcing, 500),
                Captioned(size=(96, 500), warns=True),
            ),
        ),
    ),
    Group(
        "JPEG of one scan that is cut off earlier, or announces far more lines than it has",
        "refused",
        (
            *tenths("JPEG tall", range(1, 8), DAMAGED),
            *tenths("JPEG tall", range(1, 8), DAMAGED, EOI),
            *tenths("JPEG tall gray", range(1, 8), DAMAGED),
            Case("JPEG of 480 lines that says 800", partial(announcing, 800), DAMAGED),
        ),
    ),
    Group(
        "progressive JPEG that is cut off behind its first scan, or lacks its end mark",
        "captioned; `warnings` tells that detail is missing",
        (
            *tenths("JPEG tall progressive", TENTHS, TALL_PARTIAL),
            Case("JPEG progressive cut in a table", cut_in_a_table, TALL_PARTIAL),
            Case("JPEG progressive cut in a scan's header", cut_in_a_scan_header, TALL_PARTIAL),
            *(
                Case(
                    f"JPEG progressive without its last {size} bytes",
                    partial(without_last, "JPEG progressive", size),
                    PARTIAL,
                )
                for size in (1, 2)
            ),
        ),
    ),
    Group(
        "progressive JPEG that is cut off before that",
        "refused",
        tuple(tenths("JPEG progressive", range(1, 2), DAMAGED)),
    ),
    Group(
        "PNG that lacks its end chunk",
        "captioned",
        tuple(
            Case(f"PNG without its last {size} bytes", partial(without_last, "PNG", size), SIZE)
            for size in (1, 4, 12)
        ),
    ),
)
