"""A decoder process that may grow by 40 MB at most, whatever it was granted."""

import resource

from app.engine import decode_worker

_ALLOWED_BYTES = 40_000_000


def _limit_memory(more_bytes: int) -> None:
    allowed = decode_worker._memory_bytes()[0] + min(more_bytes, _ALLOWED_BYTES)
    decode_worker._lower_limit(resource.RLIMIT_AS, allowed)


if __name__ == "__main__":
    decode_worker._limit_memory = _limit_memory
    decode_worker.main()
