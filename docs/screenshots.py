"""Write the screenshots of the page that the documentation shows, from the shipped weights.

Run it after the page or the weights change; it needs Debian's chromium:

    .venv/bin/python -m docs.screenshots

It serves the shipped weights on a free port, uses the page as a person would, and writes
docs/images/page-*.png. Letters are those of the machine's fonts: with FONTCONFIG_FILE, fontconfig
can be told of others.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from docs.refresh import ROOT, serving

IMAGES = ROOT / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
DESKTOP: ViewportSize = {"width": 1200, "height": 860}
PHONE: ViewportSize = {"width": 360, "height": 740}
MAX_BYTES = 300_000


@contextmanager
def opened(browser: Browser, address: str, viewport: ViewportSize, *, dark: bool) -> Iterator[Page]:
    """The page, with one person's light."""
    is_phone = viewport is PHONE
    context = browser.new_context(
        viewport=viewport,
        color_scheme="dark" if dark else "light",
        has_touch=is_phone,
        is_mobile=is_phone,
        device_scale_factor=2 if is_phone else 1,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.set_default_timeout(120_000)  # a model may be loaded first
    page.goto(f"http://{address}/")
    yield page
    context.close()


def give(page: Page, *names: str) -> None:
    """Choose photos, and wait until all have their captions."""
    page.set_input_files("#choose", [str(IMAGES / f"{name}.jpg") for name in names])
    page.locator(".word").first.wait_for()
    page.locator(".tile:not(.open)").nth(len(names) - 1).wait_for(state="attached")


def light(page: Page, word: str, place: int = 0) -> None:
    """Light a word, where the caption has it; else its last one."""
    words = page.locator(".reading").nth(place).locator(".word")
    texts = words.evaluate_all("words => words.map(word => word.firstChild.textContent)")
    chosen = words.nth(texts.index(word) if word in texts else len(texts) - 1)
    chosen.click()
    page.mouse.move(0, 0)


def save(page: Page, name: str) -> None:
    """Write what is seen as docs/images/NAME.png, with as many colors as its room allows."""
    page.evaluate("document.activeElement?.blur()")
    page.wait_for_timeout(500)  # hover effects end
    seen = Image.open(BytesIO(page.screenshot())).convert("RGB")
    file = IMAGES / f"{name}.png"
    for colors in (256, 192, 128, 96, 64):
        palette = seen.quantize(colors, kmeans=3)
        dithered = seen.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        dithered.save(file, optimize=True)
        if file.stat().st_size <= MAX_BYTES:
            return
    sys.exit(f"{file} is larger than {MAX_BYTES} bytes")


def main() -> None:
    """Write all screenshots."""
    with serving() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with opened(browser, address, DESKTOP, dark=False) as page:
            give(page, "cat")
            light(page, "cat")
            save(page, "page-desktop")
        with opened(browser, address, PHONE, dark=True) as page:
            give(page, "coffee", "cat", "rocket")
            light(page, "plate")
            save(page, "page-phone")
        with opened(browser, address, DESKTOP, dark=False) as page:
            give(page, "coffee")
            page.get_by_role("button", name="Compare").click()
            page.get_by_label("Second model").select_option("transformer")
            page.locator(".reading").nth(1).locator(".word").first.wait_for()
            light(page, "plate")
            light(page, "plate", place=1)
            save(page, "page-side-by-side")
        with opened(browser, address, DESKTOP, dark=True) as page:
            page.set_input_files("#choose", str(ROOT / "README.md"))
            page.get_by_role("alert").wait_for()
            save(page, "page-error")
        browser.close()


if __name__ == "__main__":
    main()
