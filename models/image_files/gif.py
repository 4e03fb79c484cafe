"""A GIF's blocks before its first image: comments and what applications wrote are skipped."""

from models.errors import ImageTooLargeError
from models.image_files.pieces import Span

__all__ = ["read_gif"]

_EXTENSION, _CONTROL, _IMAGE = 0x21, 0xF9, 0x2C
# Where a graphic control has its flags, and which of them say what follows the image.
_FLAGS_AT, _DISPOSAL = 3, 0x1C
# A file of 20 MB has 80,000 of them where each is full.
_MAX_BLOCKS = 100_000


def read_gif(data: bytes) -> list[Span | bytes]:
    """Find the parts that its decoder needs: the head, the last graphic control, the first image.

    The control says nothing any more of what is to follow the first image: for that its decoder
    would make room for a second image while it reads the header.

    What is neither an extension nor an image ends the file, as in browsers: Pillow would look for
    the next image byte by byte. Raises ImageTooLargeError where very many blocks stand before the
    image. A file that cannot be followed is left to its decoder.
    """
    flags = data[10] if len(data) > 10 else 0
    position = 13 + (3 << ((flags & 7) + 1) if flags & 128 else 0)
    head = (0, position)
    control: list[bytes] = []
    blocks = 0
    while data[position : position + 1] == bytes([_EXTENSION]):
        start = position
        is_control = data[position + 1 : position + 2] == bytes([_CONTROL])
        position += 2
        while position < len(data) and data[position]:
            position += 1 + data[position]
            blocks += 1
            if blocks > _MAX_BLOCKS:
                _refuse()
        position += 1
        blocks += 1
        if blocks > _MAX_BLOCKS:
            _refuse()
        if is_control:
            control = [_without_disposal(data[start:position])]
    is_image = data[position : position + 1] == bytes([_IMAGE])
    return [head, *control, (position, len(data) if is_image else position)]


def _without_disposal(control: bytes) -> bytes:
    """Clear the disposal method of a graphic control (GIF89a, section 23)."""
    if len(control) <= _FLAGS_AT:
        return control
    flags = bytes([control[_FLAGS_AT] & ~_DISPOSAL])
    return control[:_FLAGS_AT] + flags + control[_FLAGS_AT + 1 :]


def _refuse() -> None:
    raise ImageTooLargeError(
        f"The GIF has more than {_MAX_BLOCKS:,} blocks before its first image. Save it again as "
        "GIF or PNG."
    )
