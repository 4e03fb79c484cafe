"""Prints what decoding takes: one JSON line a file, of the file named by each argument.

A process of its own for each file, forked, so that none finds memory that another left behind.
"""

import json
import os
import sys
from pathlib import Path

from models.preprocessing import open_image


def _peak_bytes() -> int:
    """The largest size in memory that this process has had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _measure(path: Path, side_pixels: int | None) -> dict[str, object]:
    """Decode a small file of the same kind first, which loads what the decoder needs once."""
    open_image(path.with_suffix(".small").read_bytes(), side_pixels=side_pixels).decode()
    data = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    before = _peak_bytes()
    opened = open_image(data, side_pixels=side_pixels)
    image = opened.decode()
    taken = _peak_bytes() - before
    pixels = image.width * image.height
    return {
        "name": path.stem,
        "side": side_pixels,
        "pixels": pixels,
        "taken": taken,
        "estimate": opened.peak_bytes,
    }


def main() -> None:
    for argument in sys.argv[1:]:
        for side_pixels in (None, 224):
            if os.fork():
                _, status = os.wait()
                if status:
                    raise SystemExit(f"{argument} could not be measured")
            else:
                sys.stdout.write(json.dumps(_measure(Path(argument), side_pixels)) + "\n")
                sys.stdout.flush()
                os._exit(0)


if __name__ == "__main__":
    main()
