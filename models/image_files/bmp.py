"""What a run-length encoded BMP may cost: Pillow decodes it in Python."""

from models.errors import ImageTooLargeError

__all__ = ["RLE_METHODS", "check_bmp", "compression_of"]

RLE_METHODS = (1, 2)
_MAX_RLE_BYTES = 1_000_000


def compression_of(data: bytes) -> int:
    """Read the number of the compression method; 0 in the oldest header, which has none."""
    if data[14:18] == b"\x0c\0\0\0":
        return 0
    return int.from_bytes(data[30:34], "little")


def check_bmp(data: bytes) -> None:
    """Refuse a run-length encoded BMP of a size that no real one has. Raises ImageTooLargeError."""
    if compression_of(data) in RLE_METHODS and len(data) > _MAX_RLE_BYTES:
        raise ImageTooLargeError(
            f"The BMP is run-length encoded, in {len(data):,} bytes; at most {_MAX_RLE_BYTES:,} "
            "are accepted. Save it again as PNG."
        )
