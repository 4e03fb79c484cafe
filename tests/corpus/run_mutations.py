"""Decodes files that are damaged at random, and says as JSON what came of them.

    python -m tests.corpus.run_mutations COUNT

It ends with a traceback where a file ends in anything but an image or a known problem.
"""

import json
import resource
import sys
from collections import Counter

from app.api.problem_kinds import kind_of
from models.errors import ImageError, OutOfMemoryError
from models.preprocessing import DecodeLimits, decode_image
from tests.corpus.mutations import mutations

MAX_PIXELS = 1_000_000  # the files are small: what is larger is a lie


def outcome(data: bytes, side_pixels: int | None) -> str:
    """The problem that a file is, or "captioned"."""
    try:
        image = decode_image(
            data, side_pixels=side_pixels, limits=DecodeLimits(max_pixels=MAX_PIXELS)
        )
    except (ImageError, OutOfMemoryError) as error:
        return kind_of(error).slug
    if image.rgb.mode != "RGB" or image.rgb.width * image.rgb.height > MAX_PIXELS:
        raise ValueError(f"an image of {image.rgb.mode} and {image.rgb.size}")
    return "captioned"


def main() -> None:
    """Decode as many files as the command line says, at full size and at a reduced one in turn."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = Counter(
        outcome(data, (None, 16)[number % 2])
        for number, (_, data) in enumerate(mutations(int(sys.argv[1])))
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    document = {"outcomes": outcomes, "grown_bytes": grown * 1024}
    sys.stdout.write(json.dumps(document))


if __name__ == "__main__":
    main()
