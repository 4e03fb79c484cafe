"""What loaded models take in memory; what several of them share counts once. Knows no tensors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["MemoryUse", "total_bytes"]


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a model's tensors take, in bytes: its own, and each shared file's, by its SHA-256."""

    own_bytes: int = 0
    shared_bytes: Mapping[str, int] = field(default_factory=dict)


def total_bytes(uses: Iterable[MemoryUse]) -> int:
    """Sum what models take together, in bytes: a file that several of them share counts once."""
    own_bytes = 0
    shared_bytes: dict[str, int] = {}
    for use in uses:
        own_bytes += use.own_bytes
        shared_bytes.update(use.shared_bytes)
    return own_bytes + sum(shared_bytes.values())
