"""The page at `/` in a real browser that is watched: which addresses it asks, and what it complains
of. Where there is no browser, the test is skipped."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageDraw

from tests.e2e.browser import CHROMIUM, FLAGS
from tests.e2e.server import WAIT_SECONDS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, ViewportSize

PHONE: "ViewportSize" = {"width": 360, "height": 740}
DESKTOP: "ViewportSize" = {"width": 1280, "height": 860}
_ANSWERED = "Failed to load resource"  # what a browser says of each answer that is no success


@dataclass
class Visit:
    """One person at the page."""

    page: "Page"
    base: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Begin anew."""
        self.page.goto(self.base)
        self.page.wait_for_selector("html[data-ready]")

    def check(self) -> None:
        """Nothing was asked elsewhere, and nothing complained: no script failed, and no policy was
        broken."""
        assert self.complaints == [], self.complaints
        assert self.asked_elsewhere() == set(), self.asked_elsewhere()

    def give(self, *files: Path) -> None:
        """Choose files, and wait for the caption of the first."""
        self.page.set_input_files("#choose", [str(file) for file in files])
        self.wait_for_caption()

    def answer_to(self, *files: Path) -> dict[str, Any]:
        """Choose files; give the first answer of the service."""
        with self.page.expect_response(lambda response: "/attention" in response.url) as caught:
            self.give(*files)
        answer: dict[str, Any] = caught.value.json()
        return answer

    def wait_for_caption(self, place: int = 0) -> None:
        self.place(place).locator(".word").first.wait_for()

    def place(self, number: int = 0) -> "Locator":
        """A model's place: the first, or the one side by side."""
        return self.page.locator(".reading").nth(number)

    def sentence(self, place: int = 0) -> str:
        """The words that are seen, without what only a screen reader says."""
        words = self.place(place).locator(".word")
        texts = words.evaluate_all("words => words.map(word => word.firstChild.textContent)")
        return " ".join(texts)

    def lit(self) -> list[str]:
        """The words that are lit."""
        words: list[str] = self.page.locator(".word.lit").evaluate_all(
            "words => words.map(word => word.firstChild.textContent)"
        )
        return words

    def button(self, name: str) -> "Locator":
        return self.page.get_by_role("button", name=name, exact=True).first

    def asked_elsewhere(self) -> set[str]:
        """Addresses that are not the service's."""
        return {url for url in self.asked if not url.startswith((self.base, "blob:"))}

    def asked_for(self, path: str) -> list[str]:
        """What followed this path in the addresses that were asked."""
        whole = [url.removeprefix(self.base) for url in self.asked]
        return [url.removeprefix(path) for url in whole if url.startswith(path)]


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser."""
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: "Browser", base: str, key: str = "", **context: Any) -> Iterator[Visit]:
    """Someone at the page, who is checked in the end.

    key: an API key that was entered before.
    """
    settings = {"viewport": DESKTOP, "reduced_motion": "reduce"} | context
    opened = browser.new_context(**settings)
    if key:
        opened.add_init_script(f"sessionStorage.setItem('glimpse-key', {json.dumps(key)})")
    page = opened.new_page()
    page.set_default_timeout(1000 * WAIT_SECONDS)
    visit = Visit(page, base)
    page.on("request", lambda request: visit.asked.append(request.url))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on(
        "console",
        lambda said: (
            visit.complaints.append(said.text)
            if said.type in ("error", "warning") and not said.text.startswith(_ANSWERED)
            else None
        ),
    )
    visit.open()
    yield visit
    visit.check()
    opened.close()


def photo(
    file: Path, size: tuple[int, int] = (160, 100), light: tuple[int, int] = (40, 30), **save: Any
) -> Path:
    """A dark photo with one bright spot, where the fake model looks."""
    image = Image.new("RGB", size, (60, 20, 20))
    x, y = light
    ImageDraw.Draw(image).ellipse((x - 14, y - 14, x + 14, y + 14), (255, 250, 240))
    image.save(file, **save)
    return file


def photo_bytes() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (40, 30), (20, 160, 20)).save(buffer, "PNG")
    return buffer.getvalue()


def run_line(line: str, folder: Path) -> dict[str, Any]:
    """What a shell prints for a line, in a folder; it is JSON."""
    done = subprocess.run(
        ["sh", "-c", line], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
