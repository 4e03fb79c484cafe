"""The documentation's site, built as `make docs` builds it, and read from the disk."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, sync_playwright

from tests.unit.documentation import pages
from tests.unit.repository import ROOT

pytestmark = [pytest.mark.docs, pytest.mark.e2e]

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; a warning of the builder is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


class _Fetched(HTMLParser):
    """Collects what a browser fetches for a page by itself: not the links that a reader follows."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get("src") or (given.get("href") if tag == "link" else None)
        if address and given.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(address)


def test_site_has_every_page(site: Path) -> None:
    missing = [page for page in pages() if not (site / page).with_suffix(".html").is_file()]
    assert not missing


def test_site_takes_nothing_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        fetched = _Fetched()
        fetched.feed(path.read_text(encoding="utf-8"))
        assert fetched.addresses
        outside = [each for each in fetched.addresses if re.match(r"(?:https?:)?//", each)]
        assert not outside, path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", path.read_text(encoding="utf-8")), path


def test_site_quotes_code_and_shows_formulas_without_a_script(site: Path) -> None:
    page = (site / "equations.html").read_text(encoding="utf-8")
    assert page.count("<math") > 10
    assert page.count('class="hll"') > 10
    assert "lstm_update" in page
    assert "```" not in page


@pytest.fixture
def browser_page() -> Iterator[Page]:
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


def test_site_is_read_and_searched_from_the_disk(site: Path, browser_page: Page) -> None:
    requested: list[str] = []
    errors: list[str] = []

    def note(request: Request) -> None:
        requested.append(request.url)

    browser_page.on("request", note)
    browser_page.on("pageerror", lambda error: errors.append(str(error)))
    browser_page.goto((site / "index.html").as_uri())
    browser_page.get_by_role("link", name="How it works").first.click()
    browser_page.wait_for_url("**/how-it-works.html")
    browser_page.get_by_placeholder("Search").fill("doubly stochastic")
    found = browser_page.locator(".md-search-result__link").first
    found.wait_for()
    assert not errors
    assert [url for url in requested if not url.startswith(("file:", "data:", "blob:"))] == []
