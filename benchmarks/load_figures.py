"""What a load came to: percentiles, rates and shares. Pure: knows no clock, no server and no files.

A load is judged within a window of time, without its beginning: what came before has settled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.soak.client import Outcome
from benchmarks.soak.server import Sample

__all__ = [
    "LoadFigures",
    "cores_used",
    "load_figures",
    "mean_of",
    "median_ratios",
    "megabytes_most",
    "percentile",
    "ratio",
    "whole_rate",
    "window_of",
]

_REFUSED = 503
_SETTLING_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """What became of the requests of one load; None where there were none to say it of.

    captioned_per_second, refused_per_second: within the window, by when the answers came.
    sustained_per_second: captions from the first request to the last answer.
    failed: requests with neither a caption nor a refusal.
    refusal_p99_seconds: of all refusals, also those before the window and after it.
    """

    captioned_per_second: float
    sustained_per_second: float
    refused_per_second: float
    failed: int
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None
    refusal_p99_seconds: float | None


def window_of(began: float, ended: float) -> tuple[float, float]:
    """Give the part of a load that counts: without the first fifth."""
    return began + _SETTLING_SHARE * (ended - began), ended


def load_figures(outcomes: Sequence[Outcome], window: tuple[float, float]) -> LoadFigures:
    """Judge the requests that were answered within the window, in seconds of their clock.

    Raises ValueError where the window has no length.
    """
    begin, end = window
    if end <= begin:
        raise ValueError("A window ends after it begins.")
    answered = [each for each in outcomes if begin <= each.began + each.seconds < end]
    captioned = [each.seconds for each in answered if each.captioned]
    refused = [each for each in answered if each.status == _REFUSED]
    refusals = [each.seconds for each in outcomes if each.status == _REFUSED]
    return LoadFigures(
        captioned_per_second=len(captioned) / (end - begin),
        sustained_per_second=whole_rate(outcomes),
        refused_per_second=len(refused) / (end - begin),
        failed=len(answered) - len(captioned) - len(refused),
        p50_seconds=percentile(captioned, 50),
        p95_seconds=percentile(captioned, 95),
        p99_seconds=percentile(captioned, 99),
        refusal_p99_seconds=percentile(refusals, 99),
    )


def whole_rate(outcomes: Sequence[Outcome]) -> float:
    """Give captions a second from the first request to the last answer.

    Of servers that answer in batches of unlike sizes this is fairer than a window, which may cut a
    batch off.
    """
    if not outcomes:
        return 0.0
    began = min(each.began for each in outcomes)
    ended = max(each.began + each.seconds for each in outcomes)
    return ratio(float(sum(each.captioned for each in outcomes)), ended - began) or 0.0


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Give a percentile, between the two nearest values; None where there are no values."""
    return float(np.percentile(values, percent)) if values else None


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Divide; None where either is not known, or nothing is divided by."""
    if numerator is None or not denominator:
        return None
    return numerator / denominator


def median_ratios(rounds: Sequence[Mapping[str, float]], ours: str) -> dict[str, float | None]:
    """Relate `ours` to each other one in every round; give the medians of the rounds.

    A round's ratio is its own: what disturbs the machine for a while disturbs all of a round alike.
    """
    others = [name for name in rounds[0] if name != ours] if rounds else []
    return {
        name: percentile(
            [related for each in rounds if (related := ratio(each[ours], each[name])) is not None],
            50,
        )
        for name in others
    }


def cores_used(samples: Sequence[Sample]) -> float | None:
    """Give how many processors were busy for the server, between the first and the last sample."""
    if len(samples) < 2:
        return None
    first, last = samples[0], samples[-1]
    return ratio(last.cpu_seconds - first.cpu_seconds, last.seconds - first.seconds)


def megabytes_most(samples: Sequence[Sample]) -> float | None:
    """Give the most memory that was resident, in millions of bytes."""
    return max((each.memory_bytes for each in samples), default=0) / 1e6 or None


def mean_of(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Give the mean of what a histogram of /metrics saw between two readings of it."""
    count = after.get(f"{name}_count", 0.0) - before.get(f"{name}_count", 0.0)
    total = after.get(f"{name}_sum", 0.0) - before.get(f"{name}_sum", 0.0)
    return ratio(total, count)
