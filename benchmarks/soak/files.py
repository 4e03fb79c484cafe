"""What the soak uploads: good photos, and files that are bad in a way each."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["BOUNDARY", "Upload", "bad_uploads", "form_upload", "good_uploads"]

BOUNDARY = "glimpse-soak"
_PHOTOS = Path(__file__).resolve().parents[2] / "docs" / "images"
_LARGE_SIDE_PIXELS = 9000


@dataclass(frozen=True, slots=True)
class Upload:
    """One request's body, and the statuses that are right for it when the service is not busy."""

    name: str
    body: bytes
    right: frozenset[int]


def good_uploads() -> list[Upload]:
    """Give photos of a phone's and of a web page's size."""
    names = ("cat", "coffee", "astronaut", "rocket")
    photos = {name: (_PHOTOS / f"{name}.jpg").read_bytes() for name in names}
    photos["large"] = _encoded(_noise(1280, 960), "JPEG")
    photos["png"] = _encoded(_noise(320, 240), "PNG")
    return [form_upload(name, data, 200) for name, data in photos.items()]


def bad_uploads() -> list[Upload]:
    """Give one upload for each way of being bad."""
    photo = (_PHOTOS / "cat.jpg").read_bytes()
    large = Image.new("L", (_LARGE_SIDE_PIXELS, _LARGE_SIDE_PIXELS))
    return [
        form_upload("empty", b"", 400),
        form_upload("text", b"This is no photo, whatever its name says.\n" * 9, 415),
        form_upload("cut", photo[: len(photo) // 3], 422),
        form_upload("damaged PNG", _encoded(_noise(300, 200), "PNG")[:9000], 422),
        form_upload("too many pixels", _encoded(large, "PNG"), 413),
        form_upload("too small", _encoded(_noise(4, 4), "PNG"), 422),
        form_upload("zip", b"PK\x03\x04" + bytes(5000), 415),
        Upload("no form", b"not multipart", frozenset({400})),
    ]


def form_upload(name: str, data: bytes, status: int) -> Upload:
    """Give a form with one file, to which `status` is the right answer."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo"\r\n\r\n'
    tail = f"\r\n--{BOUNDARY}--\r\n"
    return Upload(name, head.encode() + data + tail.encode(), frozenset({status}))


def _noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _encoded(image: Image.Image, format_name: str) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format_name)
    return buffer.getvalue()
