"""What decoding takes in memory: `peak_bytes` is never below it, and at most twice of it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.unit.image_files import encoded, heic

SIDE = 2560
ROOT = Path(__file__).parents[2]
# Beside what grows with the image: strips, and what a codec allots once.
FIXED_BYTES = 24_000_000


def flat(mode: str, side: int) -> Image.Image:
    image = Image.new(mode, (side, side), 3)
    if mode == "P":
        image.putpalette([10, 20, 30] * 4)
    return image


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def of(mode: str, format_name: str, **options: object) -> Callable[[int], bytes]:
    return lambda side: encoded(flat(mode, side), format_name, **options)


def wide(mode: str, format_name: str, **options: object) -> Callable[[int], bytes]:
    """A file of few and very long rows."""
    return lambda side: encoded(flat(mode, 16).resize((200 * side, 20)), format_name, **options)


def photo_of_heif(mode: str, **options: object) -> Callable[[int], bytes]:
    return lambda side: heic(flat(mode, side), enc_params={"preset": "ultrafast"}, **options)


FILES: dict[str, Callable[[int], bytes]] = {
    "JPEG": of("RGB", "JPEG"),
    "JPEG rotated": of("RGB", "JPEG", exif=rotated()),
    "JPEG progressive": of("RGB", "JPEG", progressive=True),
    "JPEG CMYK": of("CMYK", "JPEG"),
    "PNG": of("RGB", "PNG", compress_level=1),
    "PNG alpha": of("RGBA", "PNG", compress_level=1),
    "PNG gray 16 bit": of("I;16", "PNG", compress_level=1),
    "PNG palette": of("P", "PNG", compress_level=1, transparency=1),
    "GIF": of("P", "GIF"),
    "BMP": of("RGB", "BMP"),
    "TIFF float deflate": of("F", "TIFF", compression="tiff_adobe_deflate"),
    "TIFF one strip": of("RGB", "TIFF", compression="tiff_lzw", tiffinfo={278: SIDE}),
    "TIFF rotated": of("RGB", "TIFF", exif=rotated()),
    "WebP": of("RGB", "WEBP", method=0),
    "WebP lossless": of("RGB", "WEBP", lossless=True, method=0),
}
# Of one row, a strip is longer than what strips have as a rule; its copies are most of it all.
WIDE: dict[str, Callable[[int], bytes]] = {
    "PNG wide alpha": wide("RGBA", "PNG", compress_level=1),
    "PNG wide gray alpha": wide("LA", "PNG", compress_level=1),
    "PNG wide gray 16 bit": wide("I;16", "PNG", compress_level=1),
    "PNG wide palette": wide("P", "PNG", compress_level=1, transparency=1),
    "TIFF wide float": wide("F", "TIFF", compression="tiff_adobe_deflate"),
}
SLOWLY_WRITTEN: dict[str, Callable[[int], bytes]] = {
    "WebP alpha": of("RGBA", "WEBP", method=0),
    "AVIF": of("RGB", "AVIF", speed=10),
    "AVIF 4:4:4 alpha": of("RGBA", "AVIF", speed=10, subsampling="4:4:4"),
    "HEIC": photo_of_heif("RGB"),
    "HEIC tiled": photo_of_heif("RGB", tile_size=512),
    "HEIC alpha": photo_of_heif("RGBA"),
}


def test_open_image_estimates_the_memory_of_its_decoding(tmp_path: Path) -> None:
    paths: list[str] = []
    for files, side in ((FILES, SIDE), (WIDE, SIDE), (SLOWLY_WRITTEN, 1536)):
        for name, write in files.items():
            path = tmp_path / f"{len(paths)} {name.replace(':', '')}.file"
            path.write_bytes(write(side))
            path.with_suffix(".small").write_bytes(write(64))
            paths.append(str(path))
    measured = subprocess.run(
        [sys.executable, "-m", "tests.unit.measure_decoding", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert measured.returncode == 0, measured.stderr
    found = [json.loads(line) for line in measured.stdout.splitlines()]
    assert len(found) == 2 * len(paths)
    wrong = [
        each
        for each in found
        if not each["taken"] <= each["estimate"] <= 2 * each["taken"] + FIXED_BYTES
    ]
    assert wrong == []
