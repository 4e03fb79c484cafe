"""The heap gives back what is free, and not at every batch."""

import ctypes
from pathlib import Path

import pytest

from app.engine.heap import HeapTrimmer

MEGABYTE = 2**20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this is no glibc")
def test_trimmer_gives_back_what_lies_between_buffers_that_stay() -> None:
    blocks = [ctypes.create_string_buffer(b"x" * 60_000) for _ in range(3000)]
    kept = blocks[::100]
    del blocks
    before = resident_bytes()

    HeapTrimmer(every_seconds=0.0).trim_if_due()

    assert before - resident_bytes() > 100 * MEGABYTE
    assert len(kept) == 30


def test_trimmer_that_is_not_due_leaves_the_heap_alone() -> None:
    blocks = [ctypes.create_string_buffer(b"x" * 60_000) for _ in range(3000)]
    kept = blocks[::100]
    del blocks
    before = resident_bytes()

    HeapTrimmer(every_seconds=3600.0).trim_if_due()

    assert before - resident_bytes() < 20 * MEGABYTE
    assert len(kept) == 30
