"""A decoder process that answers with too few pixels for an image of one color."""

from app.engine import decode_worker
from app.engine.decode_protocol import Job
from models.preprocessing import DecodedImage

LIES = 77
"""The red of that image."""

_pixels = decode_worker._pixels


def _too_few(image: DecodedImage, job: Job) -> tuple[bytes, int, int]:
    pixels, wide, high = _pixels(image, job)
    return (pixels[:-1] if pixels[0] == LIES else pixels), wide, high


if __name__ == "__main__":
    decode_worker._pixels = _too_few
    decode_worker.main()
