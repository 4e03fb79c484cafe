"""Puts a caption into a photo's file: whole or not at all, whenever the program is killed."""

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.xmp.jpeg import read_jpeg_xmp, write_jpeg_xmp
from app.xmp.packet import XmpError, put_caption
from app.xmp.png import read_png_xmp, write_png_xmp
from app.xmp.webp import read_webp_xmp, write_webp_xmp

__all__ = ["XmpEmbedding", "caption_bytes"]

_Read = Callable[[bytes], bytes | None]
_Write = Callable[[bytes, bytes], bytes]


@dataclass(frozen=True, slots=True)
class XmpEmbedding:
    """How captions are put into files.

    overwrite: whether a description or alt text that is there is replaced; otherwise it stays.
    keep_times: whether a file's time of change stays what it was.
    """

    overwrite: bool = False
    keep_times: bool = False

    def embed(self, path: Path, data: bytes, caption: str) -> str:
        """Put a caption into the file at `path`, whose bytes were `data` when it was captioned.

        Gives "written", "kept" where the file has its own description, or why it cannot be.
        """
        try:
            changed = caption_bytes(data, caption, overwrite=self.overwrite)
            if changed is None:
                return "kept"
            self._replace(path.resolve(strict=True), data, changed)
        except XmpError as error:
            return str(error)
        except OSError as error:
            return f"The file cannot be written: {error.strerror}."
        return "written"

    def _replace(self, path: Path, data: bytes, changed: bytes) -> None:
        """Write a file beside, let it outlast a power failure, and give it the photo's name.

        Its name is always the same, so that a killed run leaves nothing that the next one does not
        take away.
        """
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        beside = path.with_name(f".glimpse-{digest}.unfinished")
        beside.unlink(missing_ok=True)
        try:
            with beside.open("xb") as file:
                file.write(changed)
                file.flush()
                os.fsync(file.fileno())
            _take_over(path, beside, keep_times=self.keep_times)
            if path.read_bytes() != data:
                raise XmpError("The file was changed while it was captioned; it is not touched.")
            beside.rename(path)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise


def caption_bytes(data: bytes, caption: str, *, overwrite: bool = False) -> bytes | None:
    """Put a caption into a file's bytes; None where it has its own description, or this one.

    Raises XmpError where the file is of another format than JPEG, PNG and WebP, or damaged.
    """
    read, write = _format(data)
    packet = put_caption(read(data), caption, overwrite=overwrite)
    return None if packet is None else write(data, packet)


def _format(data: bytes) -> tuple[_Read, _Write]:
    if data[:3] == b"\xff\xd8\xff":
        return read_jpeg_xmp, write_jpeg_xmp
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return read_png_xmp, write_png_xmp
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return read_webp_xmp, write_webp_xmp
    raise XmpError("Captions are written into JPEG, PNG and WebP files only; this is another kind.")


def _take_over(path: Path, beside: Path, *, keep_times: bool) -> None:
    """Give a new file the rights, attributes and owner of the old one, as far as one may."""
    status = path.stat()
    shutil.copystat(path, beside)
    with suppress(PermissionError):
        os.chown(beside, status.st_uid, status.st_gid)
    if not keep_times:
        os.utime(beside)
