"""docs/tour.ipynb, run in a kernel from its first cell to its last, and tour.md, made of it."""

import re
from pathlib import Path

import pytest
from PIL import Image

from docs.tour import NOTEBOOK, PAGE, code_cells, page_of, run_notebook

pytestmark = pytest.mark.docs


def outline(page: str) -> list[str]:
    """What a page has, without what the weights or the machine decide."""
    return re.findall(r"^(?:#+ .*|```\w*|!\[.*)$", page, re.MULTILINE)


def test_tour_runs_and_shows_what_its_page_shows(tmp_path: Path) -> None:
    notebook = run_notebook()
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, 1 + len(cells)))
    page = page_of(notebook, tmp_path)
    assert outline(page) == outline(PAGE.read_text(encoding="utf-8"))
    drawn = sorted(tmp_path.glob("tour-*.jpg"))
    assert len(drawn) == 3
    for path in drawn:
        with (
            Image.open(path) as image,
            Image.open(NOTEBOOK.parent / "images" / path.name) as shown,
        ):
            assert image.size == pytest.approx(shown.size, rel=0.35)
    assert code_cells(notebook)[0].startswith("%matplotlib inline")
