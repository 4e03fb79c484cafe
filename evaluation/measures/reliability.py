"""How far confidences are from what they claim: calibration errors, and their curve as an SVG.

A confidence is compared with a fraction: how many of the people did what the confidence gives the
probability of. Knows no words.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["BINS", "Bin", "calibration_error", "draw_curves", "measure", "reliability"]

Values = npt.NDArray[np.float64]

BINS = 15
_SMALLEST = 1e-6
_DIGITS = 4

# A middle gray and two colors that can be read on white and on black.
_GRAY = "#808080"
_COLORS = {"before": "#d97706", "after": "#3b82f6"}

# In pixels: a panel's side, the space between panels, above them, and on their left.
_SIDE = 260
_GAP = 60
_TOP = 40
_LEFT = 50


class Bin(NamedTuple):
    """Neighbors in confidence: mean confidence, mean fraction, and how many there are."""

    confidence: float
    fraction: float
    size: int


def reliability(confidences: Values, fractions: Values, bins: int = BINS) -> list[Bin]:
    """Sort confidences (N,), with fractions (N,) beside them, into bins of equal count."""
    order = np.argsort(confidences, kind="stable")
    return [
        Bin(float(confidences[part].mean()), float(fractions[part].mean()), len(part))
        for part in np.array_split(order, min(bins, len(order)))
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Give the expected calibration error: the mean distance of confidence and fraction, by size.

    Naeini et al. 2015.
    """
    distances = sum(each.size * abs(each.confidence - each.fraction) for each in bins)
    return distances / sum(each.size for each in bins)


def measure(confidences: Values, fractions: Values) -> dict[str, float]:
    """Give ECE, Brier score (mean square distance) and log-loss (cross-entropy, in nats).

    Of confidences (N,) against fractions (N,) between 0 and 1. The log-loss has a floor above 0:
    the fractions' own entropy.
    """
    kept = confidences.clip(_SMALLEST, 1 - _SMALLEST)
    log_loss = -(fractions * np.log(kept) + (1 - fractions) * np.log(1 - kept)).mean()
    values = {
        "ECE": calibration_error(reliability(confidences, fractions)),
        "Brier": float(((confidences - fractions) ** 2).mean()),
        "log-loss": float(log_loss),
    }
    return {name: round(value, _DIGITS) for name, value in values.items()}


def draw_curves(panels: Mapping[str, Mapping[str, Sequence[Bin]]]) -> str:
    """Draw a panel for each title: the curves "before" and "after", and the perfect diagonal."""
    width = _LEFT + len(panels) * (_SIDE + _GAP)
    height = _TOP + _SIDE + 50
    places = range(_LEFT, width, _SIDE + _GAP)
    content = "".join(
        _panel(title, curves, left=left)
        for left, (title, curves) in zip(places, panels.items(), strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="{_GRAY}" role="img">\n'
        f"<title>Reliability: what people did, by the confidence</title>\n{content}</svg>\n"
    )


def _panel(title: str, curves: Mapping[str, Sequence[Bin]], *, left: int) -> str:
    right = left + _SIDE
    bottom = _TOP + _SIDE
    middle = left + _SIDE // 2
    lines = [
        _text(middle, _TOP - 14, title, "middle"),
        f'<rect x="{left}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" '
        f'stroke="{_GRAY}"/>',
        f'<path d="M{left} {bottom}L{right} {_TOP}" stroke="{_GRAY}" stroke-dasharray="4"/>',
        _text(middle, bottom + 38, "confidence", "middle"),
        f'<text transform="translate({left - 34} {_TOP + _SIDE // 2}) rotate(-90)" '
        'text-anchor="middle">observed share</text>',
    ]
    for tick in (0.0, 0.5, 1.0):
        lines.append(_text(left + tick * _SIDE, bottom + 18, f"{tick:g}", "middle"))
        lines.append(_text(left - 6, bottom - tick * _SIDE + 4, f"{tick:g}", "end"))
    for number, (name, bins) in enumerate(curves.items()):
        color = _COLORS[name]
        points = [
            f"{left + each.confidence * _SIDE:.1f} {bottom - each.fraction * _SIDE:.1f}"
            for each in bins
        ]
        lines.append(
            f'<path d="M{"L".join(points)}" fill="none" stroke="{color}" stroke-width="2"/>'
        )
        dots = "".join(f"M{point}h0" for point in points)
        lines.append(f'<path d="{dots}" stroke="{color}" stroke-width="6" stroke-linecap="round"/>')
        words = f"{name}, ECE {calibration_error(bins):.3f}"
        lines.append(_text(left + 10, _TOP + 20 + 18 * number, words, "start", color))
    return "\n".join(lines) + "\n"


def _text(x: float, y: float, words: str, anchor: str, color: str = _GRAY) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}">{words}</text>'
