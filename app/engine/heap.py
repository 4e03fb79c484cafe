"""Gives the system back what the heap keeps of buffers that are free. Knows no images.

glibc keeps freed memory for the next time, in each thread's part of the heap. Batches of every size
leave holes there that are seldom filled: two hundred of them in a row left 565 MB of free memory in
the process, which one trim of 22 ms gave back (docs/LOG.md).
"""

import ctypes

__all__ = ["trim_heap"]


def trim_heap() -> None:
    """Give free memory back to the system; nothing where the C library has no such function."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
