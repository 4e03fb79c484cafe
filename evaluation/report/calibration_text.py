"""What a calibration is worth, in Markdown, for the model card. Measures nothing."""

from collections.abc import Mapping
from typing import Any

__all__ = ["describe_calibration"]

_MEANING = (
    "A word's confidence is the probability that a person who describes the photo uses that word. "
    "A caption's is the share of its content words (no articles, prepositions, conjunctions, "
    'pronouns or forms of "be") that such a person is expected to use.'
)


def describe_calibration(metrics: Mapping[str, Any]) -> str:
    """Describe what `evaluation.measures.calibration.calibrate` measured."""
    fitted = ", ".join(f"{name} ({images:,} photos)" for name, images in metrics["fitted"].items())
    lines = [
        _MEANING,
        "",
        f"Form: {metrics['form']}. Fitted to {fitted}. Expected calibration error over "
        f"{metrics['bins']} bins of equal count, before (the model's own probability; of a "
        "caption, its geometric mean) and after:",
        "",
        "| set | confidences | count | ECE before | ECE after | Brier before | Brier after |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, measured in metrics["sets"].items():
        kinds = {kind: row for kind, row in measured.items() if kind != "photos"}
        lines += [_row(name, kind, row) for kind, row in kinds.items()]
    lines += ["", *_photo(metrics), "![reliability curve](reliability.svg)"]
    return "\n".join(lines)


def _photo(metrics: Mapping[str, Any]) -> list[str]:
    """Say how surely photos are told from other pictures, where that was measured."""
    if "photo" not in metrics:
        return []
    photo = metrics["photo"]
    return [
        "Every confidence is also multiplied with how surely the picture is a photo at all: a "
        "logistic regression on the mean of its features, fitted to the "
        f"{photo['photos']:,} dev photos and {photo['others']:,} drawn pictures of noise, plain "
        "colors, text, drawings, charts and windows. On those that it was not fitted to it gives "
        f"photos {photo['mean of photos']:.2f} and the others {photo['mean of others']:.2f} on "
        "average.",
        "",
    ]


def _row(name: str, kind: str, row: Mapping[str, Any]) -> str:
    before = row["before"]
    after = row["after"]
    values = [before["ECE"], after["ECE"], before["Brier"], after["Brier"]]
    cells = [name, kind, f"{row['count']:,}", *(f"{value:.3f}" for value in values)]
    return f"| {' | '.join(cells)} |"
