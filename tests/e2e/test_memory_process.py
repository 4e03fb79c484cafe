"""The memory of the whole service, while it decodes the files that take most of it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.corpus.case import Case
from tests.corpus.cases import CASES
from tests.corpus.outcomes import built
from tests.e2e.server import eventually, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# What docker-compose.yml allows decodes and uploads together, the service itself, and room for one
# more picture of its own size.
MOST_BYTES = 1_600_000_000
IDLE_AGAIN_BYTES = 700_000_000
HEAVY = [case for case in CASES if case.is_heavy]


class Watch:
    """The resident memory of a process and its children, watched in a thread."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self.most_bytes = 0

    def now(self) -> int:
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def run(self) -> None:
        while not self._ended.is_set():
            self.most_bytes = max(self.most_bytes, self.now())
            time.sleep(0.02)

    def end(self) -> None:
        self._ended.set()


@pytest.mark.parametrize("case", HEAVY, ids=[case.name for case in HEAVY])
def test_heavy_files_at_once_stay_within_the_memory_of_the_compose_file_and_give_it_back(
    case: Case, tmp_path: Path, repository: Path
) -> None:
    file = built(case)
    settings = {"decode_memory_bytes": 600_000_000, "max_upload_memory_bytes": 400_000_000}
    with serving(tmp_path, repository, **settings) as server:
        watch = Watch(server.process.pid)
        with ThreadPoolExecutor(5) as threads:
            watching = threads.submit(watch.run)
            answers = list(threads.map(server.caption, [file] * 4))
            watch.end()
            watching.result()
        statuses = {status for status, _ in answers}
        assert statuses == {413} or (200 in statuses and statuses <= {200, 503})
        assert watch.most_bytes < MOST_BYTES
        eventually(lambda: watch.now() < IDLE_AGAIN_BYTES)
