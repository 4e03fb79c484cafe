"""The promises of the documentation: each is proved by a test that exists, and names settings and
problems that there are."""

import re

import pytest

from app.api.problem_kinds import HTTP_PROBLEMS, PROBLEMS
from app.core.metrics import Metrics
from app.core.settings import Settings, variable_name
from tests.unit.repository import ROOT

pytestmark = pytest.mark.docs

PAGES = ("operations.md", "security.md")
CODE = re.compile(r"`([^`]+)`")


def promises(page: str) -> list[list[str]]:
    """The cells of each promise: the rows of the tables whose last column is a proof."""
    rows: list[list[str]] = []
    is_promise = False
    for line in (ROOT / "docs" / page).read_text().splitlines():
        if not line.startswith("|"):
            is_promise = False
        elif line.endswith("| proved by |"):
            is_promise = True
        elif is_promise and not line.startswith("|---"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def names_of_tests() -> set[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    return {name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text())}


@pytest.mark.parametrize("page", PAGES)
def test_every_promise_names_a_test_that_exists(page: str) -> None:
    known = names_of_tests()
    rows = promises(page)

    assert len(rows) > 15
    for row in rows:
        proofs = CODE.findall(row[-1])
        assert proofs, f"nothing proves: {row[0]}"
        assert set(proofs) <= known, f"no such test for: {row[0]}"


@pytest.mark.parametrize("page", PAGES)
def test_settings_and_problems_of_the_pages_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    variables = {variable_name(name) for name in Settings.model_fields}
    slugs = {kind.slug for kind in (*PROBLEMS.values(), *HTTP_PROBLEMS.values())}

    assert set(re.findall(r"`(GLIMPSE_[A-Z_]+)`", text)) <= variables
    named = {
        slug for row in promises(page) for slug in re.findall(r"`([a-z]+-[a-z-]+)`", " ".join(row))
    }
    assert named <= slugs


def test_metrics_of_the_operations_page_exist_and_none_is_left_out() -> None:
    shown = set(re.findall(r"`(glimpse_[a-z_]+)`", (ROOT / "docs" / "operations.md").read_text()))
    rendered = Metrics().render().decode()
    exist = set(re.findall(r"^# TYPE (glimpse_\w+) ", rendered, re.MULTILINE))

    assert {name for name in exist if not name.endswith("_created")} == shown
