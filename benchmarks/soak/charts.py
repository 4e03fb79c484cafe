"""The soak as a picture: what the service took, and how fast it answered, over time."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.soak.client import Outcome
from benchmarks.soak.server import Sample

__all__ = ["draw"]

_WINDOW_SECONDS = 30.0
_COLORS = ("#3b82f6", "#d97706", "#dc2626")


def draw(samples: Sequence[Sample], outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw memory, threads and descriptors, latency, and captions a second, one below another."""
    figure, axes = plt.subplots(4, 1, figsize=(9, 10), sharex=True, layout="constrained")
    minutes = [(sample.seconds - samples[0].seconds) / 60 for sample in samples]
    _line(axes[0], minutes, [sample.memory_bytes / 1e6 for sample in samples], "resident, MB")
    _line(axes[1], minutes, [sample.threads for sample in samples], "threads")
    _line(axes[1], minutes, [sample.descriptors for sample in samples], "descriptors", 1)
    axes[1].set_ylabel("")
    axes[1].legend(frameon=False)
    _draw_latency(axes[2], outcomes)
    _draw_rate(axes[3], outcomes)
    axes[3].set_xlabel("minutes")
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.set_ylim(bottom=0)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _line(axis: Axes, x: Sequence[float], y: Sequence[float], label: str, color: int = 0) -> None:
    axis.plot(x, y, color=_COLORS[color], label=label)
    axis.set_ylabel(label)


def _draw_latency(axis: Axes, outcomes: Sequence[Outcome]) -> None:
    """Draw the median and the tails of what was captioned, for each window of time."""
    windows = _windows([outcome for outcome in outcomes if outcome.captioned])
    minutes = [number * _WINDOW_SECONDS / 60 for number in windows]
    for color, percent in enumerate((50, 95, 99)):
        values = [
            float(np.percentile([outcome.seconds for outcome in window], percent)) * 1000
            for window in windows.values()
        ]
        _line(axis, minutes, values, f"p{percent}", color)
    axis.set_ylabel("caption, ms")
    axis.legend(frameon=False)


def _draw_rate(axis: Axes, outcomes: Sequence[Outcome]) -> None:
    kinds = {
        "captioned": [outcome for outcome in outcomes if outcome.captioned],
        "refused as bad": [outcome for outcome in outcomes if 400 <= outcome.status < 500],
        "refused as busy": [outcome for outcome in outcomes if outcome.status == 503],
    }
    for color, (label, chosen) in enumerate(kinds.items()):
        windows = _windows(chosen)
        minutes = [number * _WINDOW_SECONDS / 60 for number in windows]
        rates = [len(window) / _WINDOW_SECONDS for window in windows.values()]
        _line(axis, minutes, rates, label, color)
    axis.set_ylabel("a second")
    axis.legend(frameon=False)


def _windows(outcomes: Sequence[Outcome]) -> dict[int, list[Outcome]]:
    """Group outcomes by the window of time that they began in; the last one is not whole."""
    windows: dict[int, list[Outcome]] = {}
    if not outcomes:
        return windows
    first = min(outcome.began for outcome in outcomes)
    for outcome in sorted(outcomes, key=lambda each: each.began):
        number = int((outcome.began - first) / _WINDOW_SECONDS)
        windows.setdefault(number, []).append(outcome)
    if len(windows) > 1:
        windows.pop(max(windows))
    return windows
