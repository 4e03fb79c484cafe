"""The heap gives back what is free between buffers that stay."""

import ctypes
from pathlib import Path

import pytest

from app.engine.heap import trim_heap

MEGABYTE = 2**20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this is no glibc")
def test_trim_heap_gives_back_what_lies_between_buffers_that_stay() -> None:
    blocks = [ctypes.create_string_buffer(b"x" * 60_000) for _ in range(3000)]
    kept = blocks[::100]
    del blocks
    before = resident_bytes()

    trim_heap()

    assert before - resident_bytes() > 100 * MEGABYTE
    assert len(kept) == 30
