"""Feeds `decode_image` and `check_structure` with files that a fuzzer changes towards new code.

    python -m tests.fuzz.decode_image FOLDER [-max_total_time=120 and other options of libFuzzer]

FOLDER gets the seeds, which are the files of the corpus, and keeps what reached new code. It ends
with 0 where each file became an image or a known problem; anything else is written down as a file,
`crash-...`, `timeout-...` or `oom-...`, and ends it at once. Needs atheris.
"""

import hashlib
import logging
import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["models", "PIL"]):
    from models.file_structure import check_structure
    from models.preprocessing import ACCEPTED_FORMATS, DecodeLimits, decode_image

from models.errors import ImageError, OutOfMemoryError
from tests.corpus.cases import CASES
from tests.corpus.outcomes import built

SEED_BYTES = 20_000
LIMITS = DecodeLimits(max_pixels=1_000_000, max_jpeg_pixels=4_000_000)


def plant(folder: Path) -> None:
    """Write the corpus's small files as seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        if not case.is_heavy and len(data := built(case)) <= SEED_BYTES:
            (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)


def once(data: bytes) -> None:
    """Decode one input, at full size or at a reduced one."""
    for name in ACCEPTED_FORMATS:
        try:
            check_structure(data, name)
        except ImageError:
            continue
    side_pixels = 16 if len(data) % 2 else None
    try:
        image = decode_image(data, side_pixels=side_pixels, limits=LIMITS)
    except (ImageError, OutOfMemoryError):
        return
    if image.rgb.mode != "RGB":
        raise TypeError(f"an image of mode {image.rgb.mode}")


def main() -> None:
    """Plant the seeds and fuzz, with libFuzzer's bounds for one input unless others are given."""
    plant(Path(sys.argv[1]))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    bounds = ["-timeout=10", "-rss_limit_mb=3000", f"-max_len={SEED_BYTES}"]
    atheris.Setup([sys.argv[0], *bounds, *sys.argv[1:]], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
