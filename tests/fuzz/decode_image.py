"""Feeds `decode_image` with files that a fuzzer changes towards new code.

    python -m tests.fuzz.decode_image FOLDER [-max_total_time=120 and other options of libFuzzer]

FOLDER gets the seeds, which are the small files of the corpus, and keeps what reached new code. It
ends with 0 where each file became an image or a known problem; anything else is written down as a
file, `crash-...`, `timeout-...` or `oom-...`, and ends it at once. Needs atheris.

Every sixteenth file is also opened with its body repeated up to half a megabyte: what reads a
file's structure may not take longer than it is long.
"""

import hashlib
import logging
import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["models", "PIL"]):
    from models.preprocessing import DecodeLimits, decode_image, open_image

from models.errors import ImageError, OutOfMemoryError
from tests.corpus.cases import CASES
from tests.corpus.outcomes import built

SEED_BYTES = 20_000
REPEATED_BYTES = 500_000
HEADER_BYTES = 64
LIMITS = DecodeLimits(max_pixels=1_000_000, max_jpeg_pixels=4_000_000)


def plant(folder: Path) -> None:
    """Write the corpus's small files as seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        if not case.is_heavy and len(data := built(case)) <= SEED_BYTES:
            (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)


def once(data: bytes) -> None:
    """Decode one input, at full size or at a reduced one."""
    side_pixels = 16 if len(data) % 2 else None
    try:
        image = decode_image(data, side_pixels=side_pixels, limits=LIMITS)
    except (ImageError, OutOfMemoryError):
        pass
    else:
        if image.rgb.mode != "RGB" or image.rgb.width * image.rgb.height > LIMITS.max_pixels:
            raise ValueError(f"an image of {image.rgb.mode} and {image.rgb.size}")
    if len(data) % 16 == 0:
        open_repeated(data)


def open_repeated(data: bytes) -> None:
    """Open the input with its body repeated."""
    header, body = data[:HEADER_BYTES], data[HEADER_BYTES:] or b"\0"
    try:
        opened = open_image(header + body * (REPEATED_BYTES // len(body)), limits=LIMITS)
    except (ImageError, OutOfMemoryError):
        return
    if opened.peak_bytes <= 0:
        raise ValueError(f"a decode that takes {opened.peak_bytes} bytes")


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
