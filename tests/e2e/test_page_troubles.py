"""The page at `/` where things are not as usual: keys, a busy service, none at all, odd files,
small screens, other lights, and people who do not see it."""

import json
import os
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pillow_heif
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from app.core.keys import add_key
from tests.e2e.page import DESKTOP, PHONE, Visit, photo, visiting
from tests.e2e.server import WAIT_SECONDS, Server, eventually, serving_within

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize

pytestmark = pytest.mark.e2e

# How each EXIF orientation is to be stored so that it comes out upright.
STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two keys by name, and their file; "hurried" may ask once a minute."""
    now = datetime.now(UTC)
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    return {
        "file": str(file),
        "person": add_key(file, "person", now=now),
        "hurried": add_key(file, "hurried", now=now, requests_per_minute=1),
    }


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, keys: dict[str, str]
) -> Iterator[Server]:
    """A service that needs a key."""
    folder = tmp_path_factory.mktemp("page")
    program = ("-m", "tests.e2e.two_models_server")
    settings = {"program": program, "keys_file": keys["file"]}
    with serving_within((), folder, repository, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/"


@pytest.fixture(scope="module")
def tab(browser: "Browser", address: str, keys: dict[str, str]) -> Iterator[Visit]:
    with visiting(browser, address, key=keys["person"]) as visit:
        yield visit


def enter(visit: Visit, key: str) -> None:
    visit.page.get_by_label("API key").fill(key)
    visit.button("Use the key").click()


# -- what goes wrong ----


def test_file_that_is_no_photo_is_told_in_the_services_words(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    with visit.page.expect_response(lambda response: "/attention" in response.url) as caught:
        visit.page.set_input_files("#choose", str(tmp_path / "notes.txt"))
    problem = caught.value.json()
    card = visit.page.get_by_role("alert")
    assert card.get_by_role("heading").inner_text() == problem["title"]
    assert problem["detail"] in card.inner_text()
    assert problem["instance"].removeprefix("urn:request:") in card.inner_text()
    visit.give(photo(tmp_path / "good.png"))
    assert visit.page.locator(".tile.failed").inner_text() == problem["title"]


def test_service_that_is_out_of_reach_is_told_and_asked_again(visit: Visit, spot: Path) -> None:
    visit.page.context.set_offline(True)
    visit.page.set_input_files("#choose", str(spot))
    card = visit.page.get_by_role("alert")
    card.wait_for()
    assert "The service does not answer" in card.inner_text()
    visit.page.context.set_offline(False)
    visit.button("Try again").click()
    visit.wait_for_caption()


def test_file_that_is_gone_is_told(visit: Visit, spot: Path) -> None:
    visit.page.evaluate(
        "document.getElementById('choose').addEventListener('change', event => {"
        "event.stopImmediatePropagation()}, {once: true, capture: true})"
    )
    visit.page.set_input_files("#choose", str(spot))
    spot.unlink()
    visit.page.dispatch_event("#choose", "change")
    card = visit.page.get_by_role("alert")
    card.wait_for()
    assert "The file cannot be read" in card.inner_text()


def is_let_in(address: str, key: str) -> bool:
    try:
        request = Request(f"{address}models", headers={"X-API-Key": key})
        urlopen(request, timeout=WAIT_SECONDS).close()
    except HTTPError as error:
        error.close()
        return False
    return True


def lift_limits(keys_file: Path) -> None:
    """Let every key ask as often as it likes."""
    document = json.loads(keys_file.read_text())
    for key in document["keys"]:
        key["requests_per_minute"] = 0
    keys_file.write_text(json.dumps(document))


def test_busy_service_is_waited_for_and_asked_again_by_itself(
    browser: "Browser", address: str, keys: dict[str, str], tmp_path: Path
) -> None:
    files = [photo(tmp_path / f"{place}.png", light=(place, 50)) for place in (20, 80)]
    with visiting(browser, address, key=keys["hurried"]) as visit:  # one request, for the models
        visit.page.clock.install()
        visit.page.set_input_files("#choose", [str(file) for file in files])
        countdown = visit.page.get_by_role("timer")
        countdown.wait_for()
        assert visit.page.locator(".reading h2").first.inner_text() == "Too many requests"
        before = countdown.inner_text()
        visit.page.clock.run_for(5_000)
        assert re.fullmatch(r"Trying again in \d+ seconds\.", before)
        assert countdown.inner_text() != before
        assert visit.page.get_by_text("0 of 2 done").is_visible()
        assert visit.page.locator("progress").is_visible()
        visit.button("Stop trying").click()
        visit.button("Try again").click()
        countdown.wait_for()
        lift_limits(Path(keys["file"]))
        eventually(lambda: is_let_in(address, keys["hurried"]))
        visit.page.clock.run_for(61_000)
        visit.wait_for_caption()
        visit.page.locator(".tile").nth(1).click()
        visit.button("Try again").click()
        visit.wait_for_caption()
        assert not visit.page.locator("progress").is_visible()


def test_answer_that_takes_long_is_counted_in_seconds(
    browser: "Browser", server: Server, address: str, keys: dict[str, str], tmp_path: Path
) -> None:
    with visiting(browser, address, key=keys["person"]) as visit:
        visit.page.clock.install()
        os.kill(server.process.pid, signal.SIGSTOP)  # it takes the photo, and does not answer
        visit.page.set_input_files("#choose", str(photo(tmp_path / "slow.png")))
        standing = visit.page.locator(".standing")
        standing.filter(has_text="Looking").wait_for()
        visit.page.clock.run_for(7_000)
        said = re.fullmatch(
            r"Looking: (\d+) seconds so far, longer than usual", standing.inner_text()
        )
        assert said is not None
        assert 6 <= int(said[1]) <= 8
        os.kill(server.process.pid, signal.SIGCONT)
        visit.wait_for_caption()


def test_key_is_asked_for_kept_in_the_tab_and_never_shown(
    browser: "Browser", address: str, keys: dict[str, str], spot: Path
) -> None:
    with visiting(browser, address) as visit:
        visit.page.set_input_files("#choose", str(spot))
        enter(visit, "glimpse_person_wrong")
        visit.page.get_by_text("The key that was entered is not good.").wait_for()
        visit.page.keyboard.press("Escape")
        assert "A key is needed" in visit.page.get_by_role("alert").first.inner_text()
        visit.button("Enter the key").click()
        enter(visit, keys["person"])
        visit.wait_for_caption()
        visit.page.locator(".curl summary").click()
        line = visit.page.locator(".code code").inner_text()
        assert '-H "Authorization: Bearer $GLIMPSE_KEY"' in line
        assert keys["person"] not in visit.page.content()
        visit.open()
        visit.give(spot)
        assert visit.page.evaluate("localStorage.length") == 0


# -- odd files ----


def turned(upright: Path, orientation: int, file: Path) -> Path:
    """The photo stored otherwise, with an EXIF block that says how."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(upright) as image:
        image.transpose(STORED_AS[orientation]).save(file, exif=exif, quality=95)
    return file


def test_photo_is_shown_upright_as_the_model_sees_it(visit: Visit, tmp_path: Path) -> None:
    upright = photo(tmp_path / "upright.png")
    for orientation in STORED_AS:
        for kind in ("jpg", "png"):
            file = turned(upright, orientation, tmp_path / f"{orientation}.{kind}")
            answer = visit.answer_to(file)
            assert (answer["image"]["width"], answer["image"]["height"]) == (160, 100)
            shown = visit.page.get_by_role("img", name=answer["caption"], exact=True)
            brightest = shown.evaluate(BRIGHTEST)
            assert abs(brightest["x"] - 0.25) < 0.05, file
            assert abs(brightest["y"] - 0.3) < 0.05, file


BRIGHTEST = """async image => {
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const {data, width, height} = context.getImageData(0, 0, canvas.width, canvas.height);
    let [x, y, count] = [0, 0, 0];
    for (let index = 0; index < width * height; index += 1) {
        if (data[index * 4 + 1] > 180) {
            x += index % width; y += Math.floor(index / width); count += 1;
        }
    }
    return {x: x / count / width, y: y / count / height};
}"""


def test_photo_that_the_browser_cannot_show_has_its_caption_and_the_drawing(
    visit: Visit, tmp_path: Path
) -> None:
    upright = photo(tmp_path / "upright.png")
    with Image.open(upright) as image:
        pillow_heif.from_pillow(image).save(tmp_path / "phone.heic")
        image.save(tmp_path / "scan.tiff")
    turned(upright, 3, tmp_path / "turned.webp")  # which Chromium shows as it is stored
    for name in ("phone.heic", "scan.tiff", "turned.webp"):
        answer = visit.answer_to(tmp_path / name)
        assert visit.sentence() == answer["caption"]
        drawing = visit.page.get_by_role("img", name=f"{answer['caption']}: the photo and its maps")
        drawing.wait_for()
        assert drawing.evaluate("image => image.decode().then(() => image.naturalWidth)") > 320
        visit.page.keyboard.press("ArrowRight")
        assert visit.lit() == [answer["words"][0]["word"]]
        visit.page.keyboard.press("Escape")


# -- small screens, other lights, other senses ----


def test_phone_of_360_pixels_shows_all_of_it_without_scrolling_sideways(
    browser: "Browser", address: str, keys: dict[str, str], spot: Path
) -> None:
    phone = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
    with visiting(browser, address, key=keys["person"], **phone) as visit:
        assert visit.button("Take a photo").is_visible()
        with visit.page.expect_file_chooser() as caught:
            visit.button("Take a photo").tap()
        assert caught.value.element.get_attribute("capture") == "environment"
        caught.value.set_files(str(spot))
        visit.wait_for_caption()
        visit.page.locator(".word").nth(2).tap()
        visit.page.locator(".word.lit").wait_for()
        visit.button("Options").tap()
        visit.button("Compare").tap()
        visit.wait_for_caption(1)
        for summary in visit.page.locator("summary").all():
            summary.tap()
        width = visit.page.evaluate("document.documentElement.scrollWidth")
        first, second = (visit.place(number).bounding_box() for number in (0, 1))
    assert width == 360
    assert first is not None
    assert second is not None
    assert first["y"] + first["height"] <= second["y"]


def violations(visit: Visit) -> list[Any]:
    rules = {"rules": {"target-size": {"enabled": True}}, "resultTypes": ["violations"]}
    found: list[Any] = Axe().run(visit.page, options=rules).response["violations"]
    return [(each["id"], node["html"][:200]) for each in found for node in each["nodes"]]


@pytest.mark.parametrize(
    ("scheme", "viewport"),
    [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE), ("dark", PHONE)],
    ids=["light-desktop", "dark-desktop", "light-phone", "dark-phone"],
)
def test_axe_finds_nothing_on_any_view(
    visit: Visit, tmp_path: Path, scheme: Literal["light", "dark"], viewport: "ViewportSize"
) -> None:
    files = [photo(tmp_path / f"{place}.png", light=(place, 50)) for place in (20, 80)]
    (tmp_path / "notes.txt").write_text("no photo")
    visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    visit.page.set_viewport_size(viewport)
    assert violations(visit) == []
    visit.give(*files)
    visit.button("Options").click()
    visit.button("Compare").click()
    visit.wait_for_caption(1)
    for summary in visit.page.locator("summary").all():
        summary.click()
    visit.page.locator(".word").nth(2).click()
    assert violations(visit) == []
    visit.page.set_input_files("#choose", str(tmp_path / "notes.txt"))
    visit.page.get_by_role("alert").first.wait_for()
    visit.page.evaluate("document.getElementById('key-dialog').showModal()")
    assert violations(visit) == []
