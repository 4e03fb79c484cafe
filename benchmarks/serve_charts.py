"""Loads on the service as pictures: latency, throughput and batches over what was offered."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.offered_load import MeasuredLoad

__all__ = ["CHARTS", "draw"]

CHARTS = ("performance-latency.png", "performance-throughput.png", "performance-batches.png")
"""The names of the files that are drawn."""

_COLORS = ("#3b82f6", "#d97706", "#dc2626")
_SIZE_INCHES = (7.0, 4.0)
Value = Callable[[MeasuredLoad], float | None]


def draw(loads: Sequence[MeasuredLoad], folder: Path) -> None:
    """Draw the loads whose requests arrive by themselves, into files of a folder."""
    offered = [load for load in loads if load.offered_per_second is not None]
    folder.mkdir(parents=True, exist_ok=True)
    drawers = (_draw_latency, _draw_throughput, _draw_batches)
    for name, drawer in zip(CHARTS, drawers, strict=True):
        figure, axes = plt.subplots(figsize=_SIZE_INCHES, layout="constrained")
        drawer(axes, offered)
        axes.set_xlabel("photos offered a second")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        figure.savefig(folder / name, dpi=100)
        plt.close(figure)


def _draw_latency(axes: Axes, loads: Sequence[MeasuredLoad]) -> None:
    _line(axes, loads, "p50", lambda load: load.figures.p50_seconds, 0)
    _line(axes, loads, "p95", lambda load: load.figures.p95_seconds, 1)
    _line(axes, loads, "p99", lambda load: load.figures.p99_seconds, 2)
    axes.set_yscale("log")
    axes.set_ylabel("seconds to the caption")


def _draw_throughput(axes: Axes, loads: Sequence[MeasuredLoad]) -> None:
    _line(axes, loads, "captioned", lambda load: load.figures.captioned_per_second, 0)
    _line(axes, loads, "refused as busy", lambda load: load.figures.refused_per_second, 2)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("photos a second")


def _draw_batches(axes: Axes, loads: Sequence[MeasuredLoad]) -> None:
    _line(axes, loads, "photos in a batch", lambda load: load.mean_batch, 0)
    _line(axes, loads, "busy processors", lambda load: load.cores, 1)
    axes.set_ylim(bottom=0)


def _line(axes: Axes, loads: Sequence[MeasuredLoad], label: str, value: Value, color: int) -> None:
    points = [
        (load.offered_per_second, found)
        for load in loads
        if load.offered_per_second is not None and (found := value(load)) is not None
    ]
    axes.plot(
        [x for x, _ in points], [y for _, y in points], "o-", color=_COLORS[color], label=label
    )
