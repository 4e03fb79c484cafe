"""The curve of training: drawn from evaluation/report/curve.toml, whose figures are those of the
log."""

import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.scripts import load_script

pytestmark = pytest.mark.docs

FIGURES = ("flickr8k", "everyday", "train")


@pytest.fixture(scope="module")
def curve(repository: Path) -> ModuleType:
    """The script, as a module."""
    return load_script(repository / "evaluation" / "report" / "curve.py")


@pytest.fixture(scope="module")
def parts(repository: Path) -> list[dict[str, Any]]:
    text = (repository / "evaluation" / "report" / "curve.toml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = tomllib.loads(text)["parts"]
    return found


def test_curve_picture_is_drawn_from_the_figures_beside_it(
    repository: Path, curve: ModuleType, parts: list[dict[str, Any]]
) -> None:
    drawn = (repository / "docs" / "images" / "curve.svg").read_text(encoding="utf-8")
    assert drawn == curve.draw(parts), "run evaluation/report/curve.py"


def test_curve_every_figure_stands_in_the_log(
    repository: Path, parts: list[dict[str, Any]]
) -> None:
    log = (repository / "docs" / "LOG.md").read_text(encoding="utf-8")
    lines = [line for line in log.splitlines() if line.startswith("|")]
    points = [point for part in parts for point in part["points"]]
    assert len(points) > 20
    for point in points:
        both = [f"{point[name]:.3f}" for name in ("flickr8k", "everyday")]
        assert any(all(figure in line for figure in both) for line in lines), point
        assert "train" not in point or any(f"{point['train']:.3f}" in line for line in lines), point


def test_curve_every_point_lies_in_the_frame_and_every_step_is_named(
    curve: ModuleType, parts: list[dict[str, Any]]
) -> None:
    picture = ElementTree.fromstring(curve.draw(parts))
    height = float(picture.attrib["height"])
    dots = [
        path.attrib["d"]
        for path in picture.iter("{http://www.w3.org/2000/svg}path")
        if "h0" in path.attrib["d"]
    ]
    places = [dot.removesuffix("h0").split() for line in dots for dot in line.split("M")[1:]]
    points = [point for part in parts for point in part["points"]]
    assert len(places) == sum(name in point for point in points for name in FIGURES)
    assert all(50 <= float(y) <= height - 190 for _, y in places)
    assert {point["step"] for point in points} <= set(picture.itertext())
