"""A real browser on the page of the documentation; where there is none, the test is skipped."""

from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-sync",
]


@dataclass(frozen=True)
class Visit:
    """The answer that the browser showed, the addresses that it asked, and its complaints."""

    shown: str
    asked: list[str]
    complaints: list[str]

    def asked_elsewhere(self, base: str) -> set[str]:
        return {url for url in self.asked if not url.startswith((base, "data:", "blob:"))}


def execute_in_browser(page_address: str, image: bytes, folder: Path) -> Visit:
    """Open the page, choose an image for `POST /caption`, and press Execute."""
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    (folder / "photo.png").write_bytes(image)
    asked: list[str] = []
    complaints: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        page.goto(page_address)
        page.click("#operations-captions-caption .opblock-summary-control")
        page.set_input_files("input[type=file]", str(folder / "photo.png"))
        page.click("button.execute")
        page.wait_for_selector(".live-responses-table")
        shown = page.inner_text(".live-responses-table")
        browser.close()
    return Visit(shown, asked, complaints)
