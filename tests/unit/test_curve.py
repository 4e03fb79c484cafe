"""The curve of training: drawn from evaluation/report/curve.toml, whose figures are those of the
log."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from evaluation.report.curve import CurvePart, draw, read_parts

pytestmark = pytest.mark.docs

FIGURES = ("flickr8k", "everyday", "train")


@pytest.fixture(scope="module")
def parts() -> list[CurvePart]:
    return read_parts()


def test_curve_image_is_drawn_from_the_figures_beside_it(
    repository: Path, parts: list[CurvePart]
) -> None:
    drawn = (repository / "docs" / "images" / "curve.svg").read_text(encoding="utf-8")
    assert drawn == draw(parts), "run python -m evaluation.report.curve"


def test_curve_every_figure_stands_in_the_log(repository: Path, parts: list[CurvePart]) -> None:
    log = (repository / "docs" / "LOG.md").read_text(encoding="utf-8")
    lines = [line for line in log.splitlines() if line.startswith("|")]
    points = [point for part in parts for point in part.points]
    assert len(points) > 20
    for point in points:
        both = [f"{point.flickr8k:.3f}", f"{point.everyday:.3f}"]
        assert any(all(figure in line for figure in both) for line in lines), point
        assert point.train is None or any(f"{point.train:.3f}" in line for line in lines), point


def test_curve_every_point_lies_in_the_frame_and_every_step_is_named(
    parts: list[CurvePart],
) -> None:
    drawing = ElementTree.fromstring(draw(parts))
    height = float(drawing.attrib["height"])
    dots = [
        path.attrib["d"]
        for path in drawing.iter("{http://www.w3.org/2000/svg}path")
        if "h0" in path.attrib["d"]
    ]
    places = [dot.removesuffix("h0").split() for line in dots for dot in line.split("M")[1:]]
    points = [point for part in parts for point in part.points]
    assert len(places) == sum(point.value(name) is not None for point in points for name in FIGURES)
    assert all(50 <= float(y) <= height - 190 for _, y in places)
    assert {point.step for point in points} <= set(drawing.itertext())
