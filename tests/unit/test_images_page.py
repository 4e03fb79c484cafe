"""docs/images.md says what the corpus declares and what the decoder holds."""

import re

import pytest

from app.api.problem_kinds import PROBLEMS
from app.core.settings import Settings
from models.preprocessing import ACCEPTED_FORMATS, DecodeLimits
from tests.corpus.cases import GROUPS
from tests.corpus.table import PAGE, page_with_table

pytestmark = pytest.mark.docs


def test_images_page_has_the_corpus_as_it_is_declared() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with_table(page), "run: python -m tests.corpus.table"
    assert all(group.sent in page and group.got in page for group in GROUPS)


def test_images_page_names_the_accepted_formats() -> None:
    page = PAGE.read_text(encoding="utf-8")
    (named,) = re.findall(r"^Accepted: (.+)\.$", page, re.MULTILINE)
    assert tuple(named.split(", ")) == ACCEPTED_FORMATS


def test_images_page_names_problems_and_settings_that_exist() -> None:
    page = PAGE.read_text(encoding="utf-8")
    codes = set(re.findall(r"\d{3} `([a-z-]+)`", page))
    assert codes <= {kind.slug for kind in PROBLEMS.values()}
    settings = set(re.findall(r"`GLIMPSE_([A-Z_]+)`", page))
    assert settings
    assert {name.lower() for name in settings} <= set(Settings.model_fields)


def test_images_page_gives_the_limits_as_they_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    limits = DecodeLimits()
    shown = dict(re.findall(r"^\| `GLIMPSE_([A-Z_]+)` \| ([\d,]+) ", page, re.MULTILINE))
    numbers = {name: int(number.replace(",", "")) for name, number in shown.items()}
    assert numbers["MAX_PIXELS"] == limits.max_pixels
    assert numbers["MAX_JPEG_PIXELS"] == limits.max_jpeg_pixels
    assert numbers["MIN_SIDE_PIXELS"] == limits.min_side_pixels
    defaults = {name: Settings.model_fields[name.lower()].default for name in numbers}
    assert numbers == defaults
