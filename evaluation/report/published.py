"""What the papers report on Flickr8k's test photos, as they printed it. Nothing here was
measured by us."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True, slots=True)
class Published:
    """One printed row: scores as fractions, by the names that `evaluation.metrics.score` gives
    them; absent if not printed."""

    model: str
    source: str
    scores: Mapping[str, float]


_TABLE = "Xu et al. 2015, table 1"
PUBLISHED = (
    Published(
        "Log-bilinear (Kiros et al. 2014)",
        f"as quoted in {_TABLE}",
        {"BLEU-1": 0.656, "BLEU-2": 0.424, "BLEU-3": 0.277, "BLEU-4": 0.177},
    ),
    Published(
        "NIC (Vinyals et al. 2015)",
        f"as quoted in {_TABLE}",
        {"BLEU-1": 0.63, "BLEU-2": 0.41, "BLEU-3": 0.27},
    ),
    Published(
        "Soft attention (Xu et al. 2015)",
        "table 1",
        {"BLEU-1": 0.67, "BLEU-2": 0.448, "BLEU-3": 0.299, "BLEU-4": 0.195, "METEOR": 0.1893},
    ),
    Published(
        "Hard attention (Xu et al. 2015)",
        "table 1",
        {"BLEU-1": 0.67, "BLEU-2": 0.457, "BLEU-3": 0.314, "BLEU-4": 0.213, "METEOR": 0.2030},
    ),
)
