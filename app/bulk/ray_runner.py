"""The loop over photos on a Ray cluster: Ray Data hands shards to workers that hold the model,
starts as many of them as the bounds and the cluster allow, and gives a lost worker's shard to
another.

The workers read the photos themselves: what goes through Ray is names and counts. Needs Ray, which
is an extra: imported only here.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from app.bulk.parquet import ROWS_A_SHARD
from app.bulk.reader import Photo
from app.bulk.shards import Shard, ShardOrder, ShardReport, ShardWorker, cut
from app.core.errors import ClusterError
from app.core.settings import Settings

__all__ = ["RayCluster", "run_on_ray"]

_SHARD, _REPORT = "shard", "report"
# A worker's end is no fault of its shard; a shard whose worker ends this often is another matter.
_MAX_TASK_RETRIES = 10
_SHARDS_A_WORKER = 4
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Threads of a run that was stopped do not reach for another cluster.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # What fails is raised here as an error too; Ray's own files have the rest.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
}
_LOCAL = "local"
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Where the workers are, and how many.

    address: as `ray.init` takes it: `host:6379`, `ray://host:10001`, `auto`, or `local` for a
    cluster of this machine alone.
    """

    address: str
    min_workers: int
    max_workers: int
    cpus_per_worker: int

    def photos_a_shard(self, photos: int, in_flight: int) -> int:
        """Choose how large shards are: several for each worker, so that all end at about one time.

        As many as a worker has in the works at least, `ROWS_A_SHARD` at most.
        """
        share = -(-photos // (_SHARDS_A_WORKER * self.max_workers))
        return max(1, min(max(share, in_flight), ROWS_A_SHARD))


async def run_on_ray(
    photos: Sequence[Photo], order: ShardOrder, cluster: RayCluster
) -> AsyncIterator[ShardReport]:
    """Caption photos, and give the report of each shard as it is done, in no order.

    Raises ClusterError where there is no such cluster, or it fails.
    """
    shards = list(cut(photos, cluster.photos_a_shard(len(photos), order.in_flight)))
    with _connected(cluster):
        rows = _rows(
            shards, replace(order, settings=_for_workers(order.settings, cluster)), cluster
        )
        reports = _read(rows)
        while isinstance(found := await reports.get(), ShardReport):
            yield found
        if found is not None:
            raise ClusterError(f"The Ray cluster failed: {_first_line(found)}") from found


def _for_workers(settings: Settings, cluster: RayCluster) -> Settings:
    """Change what is another machine's: its processors, and the folder that it works in."""
    return settings.model_copy(
        update={
            "compute_threads": cluster.cpus_per_worker,
            "weights_folder": settings.weights_folder.resolve(),
        }
    )


def _read(rows: Iterator[dict[str, Any]]) -> "asyncio.Queue[ShardReport | Exception | None]":
    """Read reports in a thread that nobody waits for, so that a run can be stopped at any moment.

    Behind the last report comes None, or what went wrong.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[ShardReport | Exception | None] = asyncio.Queue()

    def put(found: ShardReport | Exception | None) -> None:
        with suppress(RuntimeError):  # the run has been stopped, and its loop is closed
            loop.call_soon_threadsafe(queue.put_nowait, found)

    def read() -> None:
        try:
            for row in rows:
                put(ShardReport.from_json(row[_REPORT]))
        except Exception as error:  # noqa: BLE001  handed on
            put(error)
        else:
            put(None)

    threading.Thread(target=read, name="reports", daemon=True).start()
    return queue


def _check_listens(address: str) -> None:
    """Raise ClusterError where nobody listens at `host:port`: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"There is no Ray cluster to be reached at {address}: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    """Say what went wrong: of an error in a worker, the worker's own words."""
    said = str(getattr(error, "cause", None) or error).strip()
    return next(iter(said.splitlines()), type(error).__name__)


@contextmanager
def _connected(cluster: RayCluster) -> Iterator[None]:
    """Be connected to the cluster for the length of the block. Raises ClusterError."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            "A Ray cluster needs the package ray, which is not installed. Install the extra of "
            "that name: pip install 'glimpse[ray]'."
        ) from error
    _check_listens(cluster.address)
    # One of this machine alone is made for the run: it needs no dashboard.
    options: dict[str, Any] = {"include_dashboard": False} if cluster.address == _LOCAL else {}
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # of which Ray raises many kinds, the plain one too
        raise ClusterError(
            f"There is no Ray cluster to be reached at {cluster.address}: {_first_line(error)}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _rows(
    shards: Sequence[Shard], order: ShardOrder, cluster: RayCluster
) -> Iterator[dict[str, Any]]:
    """Start the pipeline: a row is a shard, then its report."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    listing = ray.data.from_items(
        [{_SHARD: shard.to_json()} for shard in shards],
        override_num_blocks=len(shards),  # a block is what is done again
    )
    worker: Any = _RayWorker  # a class that Ray makes one of in each worker, and then calls
    reports = listing.map(
        worker,
        fn_constructor_args=(order,),
        compute=ray.data.ActorPoolStrategy(
            min_size=cluster.min_workers, max_size=cluster.max_workers
        ),
        num_cpus=cluster.cpus_per_worker,
        max_restarts=-1,
        max_task_retries=_MAX_TASK_RETRIES,
    )
    return iter(reports.iter_rows())


class _RayWorker:
    """A worker as Ray Data calls it: a row in, a row out."""

    def __init__(self, order: ShardOrder) -> None:
        self._worker = ShardWorker(order)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {_REPORT: self._worker.caption(Shard.from_json(row[_SHARD])).to_json()}
