"""The figures that the project is held to, and which benchmark gives each. Pure: measures nothing.

Everywhere more is better for a throughput, and less for everything else.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["KEYS", "summarize"]

KEYS: Mapping[str, tuple[str, ...]] = {
    "throughput_vs_naive": ("peers", "throughput_vs", "naive"),
    "throughput_vs_litserve": ("peers", "throughput_vs", "litserve"),
    "throughput_vs_transformers": ("peers", "throughput_vs", "transformers"),
    "throughput_vs_unbatched": ("peers", "throughput_vs", "unbatched"),
    "share_of_ideal": ("serve", "share_of_ideal"),
    "p50_vs_bare": ("serve", "p50_vs_bare"),
    "p99_at_70_percent_vs_p50": ("serve", "p99_at_70_percent_vs_p50"),
    "overload_throughput_share": ("serve", "overload_throughput_share"),
    "refusal_p99_seconds": ("serve", "refusal_p99_seconds"),
    "resident_megabytes": ("serve", "resident_megabytes"),
    "ready_seconds": ("cold", "ready_seconds"),
    "ready_exported_seconds": ("cold", "ready_exported_seconds"),
    "environment_megabytes": ("cold", "environment_megabytes"),
    "beam_doubling_cost": ("stages", "beam_doubling_cost"),
    "training_frozen_vs_plain": ("train", "photos_vs_plain", "frozen"),
    "training_finetune_vs_plain": ("train", "photos_vs_plain", "finetune"),
}
"""Where each figure stands: the benchmark, and the names on the way into its document."""


def summarize(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Pick every figure of `KEYS` out of the benchmarks' documents, by their names.

    None where a benchmark was left out, failed, or could not have the figure.
    """
    return {key: _find(documents, path) for key, path in KEYS.items()}


def _find(document: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(name)
    return document
