"""Keeps libtiff, the C library behind Pillow's TIFF decoder, from writing to standard error.

For a damaged TIFF it writes lines of its own there, which no logger sees: a stranger's upload must
not put lines between the log's. Knows no files and no pixels; Pillow raises for the same faults.
"""

import ctypes
from functools import cache

from PIL import _imaging

__all__ = ["silence_libtiff"]


@cache
def silence_libtiff() -> None:
    """Take libtiff's handlers of errors and warnings away, once a process.

    Pillow has no call for it. The library is found through Pillow's own module, which is linked
    to it; where Pillow was built otherwise, nothing changes.
    """
    library = ctypes.CDLL(_imaging.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        try:
            set_handler = getattr(library, name)
        except AttributeError:
            return
        set_handler.argtypes = [ctypes.c_void_p]
        set_handler.restype = ctypes.c_void_p
        set_handler(None)
