"""The page at `/`: a photo in, its sentence out, and for each word where the model looked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from models.geometry import Box
from models.rendering import upsample_alpha
from tests.e2e.page import DESKTOP, PHONE, Visit, photo, photo_bytes, run_line, visiting
from tests.e2e.server import eventually, serving_within

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize

pytestmark = pytest.mark.e2e

DUSK, LIGHT = 0.64, 0.16  # the light's opacity where a map is coldest, and where it is hottest


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    program = ("-m", "tests.e2e.two_models_server")
    with serving_within((), folder, repository, program=program) as server:
        yield f"http://127.0.0.1:{server.port}/"


@pytest.fixture(scope="module")
def tab(browser: "Browser", address: str) -> Iterator[Visit]:
    permissions = ["clipboard-read", "clipboard-write"]
    with visiting(browser, address, permissions=permissions) as visit:
        yield visit


def copied(visit: Visit) -> str:
    return str(visit.page.evaluate("navigator.clipboard.readText()"))


def wait_until_copied(visit: Visit) -> None:
    visit.page.locator(".quiet.done").first.wait_for()


# -- a photo comes in ----


def test_chosen_photo_is_shown_with_the_services_caption(visit: Visit, spot: Path) -> None:
    answer = visit.answer_to(spot)
    assert visit.sentence() == answer["caption"]
    shown = visit.page.get_by_role("img", name=answer["caption"])
    size = shown.evaluate("image => image.decode().then(() => [image.naturalWidth, image.width])")
    assert size[0] == 160
    assert size[1] > 400
    assert visit.page.get_by_role("status").inner_text() == f"glimpse: {answer['caption']}"


def test_pasted_photo_is_captioned(visit: Visit) -> None:
    visit.page.evaluate(
        """async () => {
            const canvas = document.createElement("canvas");
            canvas.getContext("2d").fillRect(0, 0, 50, 50);
            const blob = await new Promise(done => canvas.toBlob(done));
            await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
        }"""
    )
    visit.page.keyboard.press("Control+V")
    visit.wait_for_caption()
    assert visit.sentence()


def test_dropped_photo_is_captioned_and_a_dropped_text_is_explained(
    visit: Visit, spot: Path
) -> None:
    transfer = visit.page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
            return transfer;
        }""",
        list(spot.read_bytes()),
    )
    visit.page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    assert visit.page.locator("#veil").is_visible()
    visit.page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    visit.wait_for_caption()
    assert not visit.page.locator("#veil").is_visible()
    text = visit.page.evaluate_handle("new DataTransfer()")
    visit.page.dispatch_event("body", "drop", {"dataTransfer": text})
    assert "That was no file" in visit.page.locator("#notice").inner_text()


def test_several_photos_fill_a_gallery_that_is_the_tabs_own(visit: Visit, tmp_path: Path) -> None:
    files = [photo(tmp_path / f"{place}.png", light=(place, 50)) for place in (20, 80, 140)]
    visit.give(*files)
    tiles = visit.page.locator(".tile")
    visit.page.get_by_text("3 photos").wait_for()
    captions = tiles.locator(".tile-text").all_inner_texts()
    assert all(text.startswith("a red ") for text in captions)
    tiles.nth(2).click()
    assert visit.sentence() == captions[2]
    assert tiles.nth(2).get_attribute("aria-current") == "true"
    visit.page.get_by_role("button", name="Remove 140.png").click()
    assert tiles.count() == 2
    visit.button("Clear").click()
    assert visit.page.get_by_role("heading", name="Drop a photo").is_visible()
    assert visit.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]


def test_photos_beyond_the_gallerys_room_are_left_out_and_told(
    visit: Visit, tmp_path: Path
) -> None:
    small = [photo(tmp_path / f"{n}.png", size=(20, 20), light=(9, 9)) for n in range(101)]
    visit.give(*small)
    assert "100 photos; 1 were left out" in visit.page.locator("#notice").inner_text()
    assert visit.page.locator(".tile").count() == 100
    visit.button("Clear").click()


# -- where the model looked ----


def stop_the_clock(visit: Visit) -> None:
    """Let the page's time pass only as the test says."""
    visit.page.clock.install(time=0)
    visit.page.clock.pause_at(3_600_000)


def opacity_of_the_corner(visit: Visit) -> int:
    """Of the canvas' first pixel, 0 to 255."""
    drawn: int = visit.page.evaluate(
        "document.querySelector('canvas.light').getContext('2d').getImageData(0, 0, 1, 1).data[3]"
    )
    return drawn


def heat_on_the_page(visit: Visit) -> np.ndarray:
    """What the canvas shows, turned back into heat (height, width) by its opacity."""
    drawn = visit.page.evaluate(
        """() => {
            const canvas = document.querySelector("canvas.light");
            const {width, height} = canvas;
            const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
            return {width, height, opacity: [...data].filter((_, index) => index % 4 === 3)};
        }"""
    )
    opacity = np.array(drawn["opacity"]).reshape(drawn["height"], drawn["width"]) / 255
    return np.asarray((DUSK - opacity) / (DUSK - LIGHT))


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_word_under_the_mouse_lights_the_photo_where_its_map_is(
    browser: "Browser", address: str, spot: Path, viewport: "ViewportSize"
) -> None:
    with visiting(browser, address, viewport=viewport) as visit:
        visit.give(spot)
        with visit.page.expect_response(lambda response: "/attention" in response.url) as caught:
            visit.page.get_by_label("Model").select_option("other")  # its maps have a rim
        answer = caught.value.json()
        visit.wait_for_caption()
        position = len(answer["words"]) - 1
        visit.page.locator(".word").nth(position).hover()
        visit.page.locator(".word.lit").wait_for()
        word = answer["words"][position]
        eventually(lambda: opacity_of_the_corner(visit) > 0)
        heat = heat_on_the_page(visit)
        left, top, right, bottom = answer["grid"]["box"]
        box = Box(left / 160, top / 100, right / 160, bottom / 100)
        alpha = np.array(word["alpha"], dtype=np.float32)
        expected = upsample_alpha(alpha, (heat.shape[1], heat.shape[0]), box)
        assert np.abs(heat - expected).max() < 0.02
        assert np.ptp(expected) > 0.5
        over = visit.page.locator("canvas.light").bounding_box()
        assert over == visit.page.locator("img.photo").bounding_box()
        assert word["word"] in visit.page.locator(".word-info").inner_text()


def test_light_fades_between_words_and_goes_with_the_mouse(
    browser: "Browser", address: str, spot: Path
) -> None:
    with visiting(browser, address, reduced_motion="no-preference") as visit:
        visit.give(spot)
        stop_the_clock(visit)
        levels = []
        words = visit.page.locator(".word")
        for target in (words.nth(6), visit.page.locator(".candidates h2")):
            target.hover()
            for _ in range(4):
                visit.page.clock.run_for(100)
                levels.append(opacity_of_the_corner(visit))
    rising, falling = levels[:4], levels[4:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert 0 < rising[0] < rising[3]
    assert 0 < falling[0] < rising[3]
    assert falling[3] == 0


def test_arrow_keys_walk_through_the_words_and_escape_leaves_them(visit: Visit, spot: Path) -> None:
    answer = visit.answer_to(spot)
    words = [word["word"] for word in answer["words"]]
    seen = []
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowRight", "ArrowLeft", "Home", "ArrowLeft"):
        visit.page.keyboard.press(key)
        seen += visit.lit()
    assert seen == [words[0], words[1], words[-1], words[-1], words[-2], words[0], words[0]]
    focused = visit.page.evaluate("document.activeElement.textContent")
    assert focused.startswith(f"{words[0]}, probability 90 %, gate 1.00, looked ")
    visit.page.keyboard.press("Escape")
    assert visit.lit() == []
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.textContent") == "Play"


def test_play_lights_each_word_in_turn_and_ends(
    browser: "Browser", address: str, spot: Path
) -> None:
    with visiting(browser, address) as visit:
        answer = visit.answer_to(spot)
        stop_the_clock(visit)
        visit.button("Play").click()
        seen = []
        for _ in answer["words"]:
            seen += visit.lit()
            visit.page.clock.run_for(850)
        assert seen == [word["word"] for word in answer["words"]]
        assert visit.lit() == []
        visit.button("Play").click()
        visit.button("Stop").click()
        assert visit.lit() == []


# -- the search, and what it gives ----


def test_each_of_the_best_captions_is_shown_with_its_own_maps(visit: Visit, spot: Path) -> None:
    answer = visit.answer_to(spot)
    second = answer["captions"][1]
    candidates = visit.page.locator(".candidate")
    assert candidates.locator(".candidate-text").all_inner_texts() == [
        caption["text"] for caption in answer["captions"]
    ]
    candidates.nth(1).click()
    assert visit.sentence() == second["text"]
    visit.page.locator(".numbers summary").click()
    row = visit.page.get_by_role("row").nth(3)
    assert row.inner_text().split()[:3] == [
        second["words"][2]["word"],
        f"{second['words'][2]['confidence']:.0%}".removesuffix("%"),
        "%",
    ]
    visit.button("Copy text").click()
    wait_until_copied(visit)
    assert copied(visit) == second["text"]


def test_options_are_sent_as_they_are_set_and_reset(visit: Visit, spot: Path) -> None:
    visit.give(spot)
    visit.button("Options").click()
    for label, value, sent in (
        ("Longest caption", "4", "num_captions=3&max_length=4"),
        ("Beam size", "2", "max_length=4&beam_size=2&num_captions=2"),
        ("Length penalty", "0.5", "length_penalty=0.5"),
    ):
        with visit.page.expect_response(lambda response: "/attention" in response.url) as caught:
            visit.page.get_by_label(label).fill(value)
        asked = set(caught.value.url.partition("?")[2].split("&"))
        assert set(sent.split("&")) <= asked
    visit.wait_for_caption()
    assert len(visit.sentence().split()) == 4
    visit.button("Reset").click()
    visit.page.locator(".candidate").nth(2).wait_for()
    assert len(visit.sentence().split()) > 4


def test_two_models_stand_side_by_side(visit: Visit, spot: Path) -> None:
    visit.give(spot)
    visit.button("Compare").click()
    visit.wait_for_caption(1)
    first, second = visit.place(0), visit.place(1)
    assert second.get_by_role("combobox").input_value() == "other"
    assert any("model=other" in query for query in visit.asked_for("attention?"))
    boxes = [place.bounding_box() for place in (first, second)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    second.locator(".word").nth(3).hover()
    assert first.locator(".word.lit").count() == 0
    assert second.locator(".word.lit").count() == 1
    first.get_by_role("combobox").select_option("other")
    visit.wait_for_caption()
    assert first.locator(".origin").inner_text().startswith("other · ")
    second.get_by_role("button", name="Take this model away").click()
    assert visit.page.locator(".reading").count() == 1


# -- what is taken away ----


def test_caption_is_copied_as_an_alt_attribute_and_as_json(visit: Visit, spot: Path) -> None:
    answer = visit.answer_to(spot)
    visit.button("alt").click()
    wait_until_copied(visit)
    assert copied(visit) == f'alt="{answer["caption"]}"'
    visit.button("JSON").click()
    eventually(lambda: copied(visit).startswith("{"))
    document = json.loads(copied(visit))
    assert document["caption"] == answer["caption"]
    assert document["image"] == answer["image"]
    for caption, sent in zip(document["captions"], answer["captions"], strict=True):
        assert caption["text"] == sent["text"]
        assert [word.keys() for word in caption["words"]] == [
            {"word", "probability", "confidence", "beta"} for _ in sent["words"]
        ]


def test_curl_line_does_the_same_when_it_is_pasted(visit: Visit, tmp_path: Path) -> None:
    names = ['it\'s $(touch owned) "a\\b" `c`; d, e=f 100%.png', "-", "-x écran 日本.png", "a.png"]
    for name in names:
        answer = visit.answer_to(photo(tmp_path / name, format="PNG"))
        visit.page.locator(".curl summary").click()
        said = run_line(visit.page.locator(".code code").inner_text(), tmp_path)
        assert said["captions"] == answer["captions"]
    assert {file.name for file in tmp_path.iterdir()} == set(names)


def test_curl_line_has_no_name_that_a_terminal_could_obey(visit: Visit) -> None:
    visit.page.set_input_files(
        "#choose", {"name": "a\x1b[2Jb.png", "mimeType": "image/png", "buffer": photo_bytes()}
    )
    visit.wait_for_caption()
    visit.page.locator(".curl summary").click()
    assert 'image=@"photo.jpg"' in visit.page.locator(".code code").inner_text()


def test_overlay_is_the_services_drawing(visit: Visit, spot: Path) -> None:
    visit.give(spot)
    with visit.page.expect_download() as caught:
        visit.button("Overlay").click()
    assert caught.value.suggested_filename == "spot-overlay.png"
    with Image.open(caught.value.path()) as drawing:
        assert drawing.format == "PNG"
        assert drawing.width > 160 * 2
    assert any("format=png" in query for query in visit.asked_for("attention?"))
