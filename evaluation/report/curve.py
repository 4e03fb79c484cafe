"""Draw docs/images/curve.svg, what each step of training was worth, from
evaluation/report/curve.toml: run after that changes.

.venv/bin/python evaluation/report/curve.py
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"

# A middle gray and colors that can be read on white and on black.
_GRAY = "#808080"
_SERIES = {
    "train": ("500 training photos of Flickr8k", "#808080"),
    "everyday": ("everyday, 300 photos", "#d97706"),
    "flickr8k": ("Flickr8k dev, 1,000 photos", "#3b82f6"),
}
_LOW, _HIGH, _TICK = 0.3, 1.2, 0.1
_STEP, _GAP, _LEFT, _TOP, _HEIGHT, _LABELS = 44, 56, 50, 50, 300, 190  # pixels


def draw(parts: Sequence[Mapping[str, Any]]) -> str:
    """Draw the parts side by side on one scale, a point a step, as an SVG."""
    lefts, left = [], float(_LEFT)
    for part in parts:
        lefts.append(left)
        left += len(part["points"]) * _STEP + _GAP
    width, height = round(left), _TOP + _HEIGHT + _LABELS
    legend = "".join(
        _text(_LEFT + 220 * number, 18, words, color)
        for number, (words, color) in enumerate(_SERIES.values())
    )
    content = "".join(_part(part, left) for part, left in zip(parts, lefts, strict=True))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{_GRAY}" role="img">\n'
        f"<title>CIDEr-D after each step of training</title>\n{legend}{content}</svg>\n"
    )


def _part(part: Mapping[str, Any], left: float) -> str:
    """One part's frame, lines and the names of its steps, from `left` on."""
    points = part["points"]
    width, bottom = len(points) * _STEP, _TOP + _HEIGHT
    lines = [_text(left, _TOP - 10, part["title"])]
    for tick in range(round((_HIGH - _LOW) / _TICK) + 1):
        value = _LOW + tick * _TICK
        lines.append(
            f'<path d="M{left:g} {_y(value)}h{width}" stroke="{_GRAY}" stroke-opacity="0.25"/>'
        )
        lines.append(_text(left - 6, float(_y(value)) + 4, f"{value:.1f}", anchor="end"))
    for number, point in enumerate(points):
        x = _x(number, left)
        lines.append(
            f'<text transform="translate({x} {bottom + 14}) rotate(60)" '
            f'text-anchor="start">{point["step"]}</text>'
        )
    for name, (_, color) in _SERIES.items():
        places = [
            f"{_x(number, left)} {_y(point[name])}"
            for number, point in enumerate(points)
            if name in point
        ]
        if part["joined"] and name != "train":  # which was measured here and there alone
            lines.append(
                f'<path d="M{"L".join(places)}" fill="none" stroke="{color}" stroke-width="2"/>'
            )
        dots = "".join(f"M{place}h0" for place in places)
        lines.append(f'<path d="{dots}" stroke="{color}" stroke-width="7" stroke-linecap="round"/>')
    return "\n".join(lines) + "\n"


def _x(number: int, left: float) -> str:
    return f"{left + (number + 0.5) * _STEP:g}"


def _y(value: float) -> str:
    return f"{_TOP + (_HIGH - value) / (_HIGH - _LOW) * _HEIGHT:.1f}"


def _text(x: float, y: float, words: str, color: str = _GRAY, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}">{words}</text>\n'


if __name__ == "__main__":
    parts = tomllib.loads(Path(__file__).with_name("curve.toml").read_text(encoding="utf-8"))[
        "parts"
    ]
    (DOCS / "images" / "curve.svg").write_text(draw(parts), encoding="utf-8")
