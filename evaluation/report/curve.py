"""The curve of training: what each step of training was worth, from curve.toml, as an SVG.

`python -m evaluation.report.curve` draws docs/images/curve.svg: run it after curve.toml changes.
Measures nothing.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

__all__ = ["CurvePart", "CurvePoint", "draw", "read_parts"]

_CURVE = Path("docs/images/curve.svg")

# A middle gray and colors that can be read on white and on black.
_GRAY = "#808080"
_SERIES = {
    "train": ("500 training photos of Flickr8k", "#808080"),
    "everyday": ("everyday, 300 photos", "#d97706"),
    "flickr8k": ("Flickr8k dev, 1,000 photos", "#3b82f6"),
}
# The scale of CIDEr-D.
_LOW = 0.3
_HIGH = 1.2
_TICK = 0.1
# In pixels: from step to step, between parts, on the left, above, of a part, for the labels below.
_STEP = 44
_GAP = 56
_LEFT = 50
_TOP = 50
_HEIGHT = 300
_LABELS = 190


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CurvePoint(_Record):
    """CIDEr-D after one step of training, on each set that it was measured on."""

    step: str
    train: float | None = None
    everyday: float | None = None
    flickr8k: float | None = None

    def value(self, series: str) -> float | None:
        """Give the value on a set, by its field."""
        values = {"train": self.train, "everyday": self.everyday, "flickr8k": self.flickr8k}
        return values[series]


class CurvePart(_Record):
    """A part of the curve.

    joined: whether lines join its points.
    """

    title: str
    joined: bool
    points: tuple[CurvePoint, ...]


def read_parts() -> list[CurvePart]:
    """Read curve.toml."""
    text = Path(__file__).with_name("curve.toml").read_text(encoding="utf-8")
    return [CurvePart.model_validate(part) for part in tomllib.loads(text)["parts"]]


def draw(parts: Sequence[CurvePart]) -> str:
    """Draw the parts side by side on one scale, a point a step, as an SVG."""
    content = ""
    left = float(_LEFT)
    for part in parts:
        content += _draw_part(part, left)
        left += len(part.points) * _STEP + _GAP
    width = round(left)
    height = _TOP + _HEIGHT + _LABELS
    legend = "".join(
        _text(_LEFT + 220 * number, 18, words, color)
        for number, (words, color) in enumerate(_SERIES.values())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="{_GRAY}" role="img">\n'
        f"<title>CIDEr-D after each step of training</title>\n{legend}{content}</svg>\n"
    )


def _draw_part(part: CurvePart, left: float) -> str:
    """Draw one part's frame, the names of its steps, and its points, from `left` on."""
    lines = [_text(left, _TOP - 10, part.title), *_frame(part, left)]
    for number, point in enumerate(part.points):
        x = _x(number, left)
        lines.append(
            f'<text transform="translate({x} {_TOP + _HEIGHT + 14}) rotate(60)" '
            f'text-anchor="start">{point.step}</text>'
        )
    for name in _SERIES:
        lines += _draw_series(part, name, left)
    return "\n".join(lines) + "\n"


def _frame(part: CurvePart, left: float) -> list[str]:
    """Draw a line and a number for each tick of the scale."""
    width = len(part.points) * _STEP
    lines = []
    for tick in range(round((_HIGH - _LOW) / _TICK) + 1):
        value = _LOW + tick * _TICK
        lines.append(
            f'<path d="M{left:g} {_y(value)}h{width}" stroke="{_GRAY}" stroke-opacity="0.25"/>'
        )
        lines.append(_text(left - 6, float(_y(value)) + 4, f"{value:.1f}", anchor="end"))
    return lines


def _draw_series(part: CurvePart, name: str, left: float) -> list[str]:
    """Draw the points of one set, and the line that joins them.

    Nothing joins the points of "train", which were measured here and there only.
    """
    _, color = _SERIES[name]
    places = []
    for number, point in enumerate(part.points):
        value = point.value(name)
        if value is not None:
            places.append(f"{_x(number, left)} {_y(value)}")
    lines = []
    if part.joined and name != "train":
        lines.append(
            f'<path d="M{"L".join(places)}" fill="none" stroke="{color}" stroke-width="2"/>'
        )
    dots = "".join(f"M{place}h0" for place in places)
    lines.append(f'<path d="{dots}" stroke="{color}" stroke-width="7" stroke-linecap="round"/>')
    return lines


def _x(number: int, left: float) -> str:
    return f"{left + (number + 0.5) * _STEP:g}"


def _y(value: float) -> str:
    return f"{_TOP + (_HIGH - value) / (_HIGH - _LOW) * _HEIGHT:.1f}"


def _text(x: float, y: float, words: str, color: str = _GRAY, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}">{words}</text>\n'


if __name__ == "__main__":
    _CURVE.write_text(draw(read_parts()), encoding="utf-8")
