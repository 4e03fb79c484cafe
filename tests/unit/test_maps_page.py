"""The page of maps: chosen by its rule, small enough to commit, without the images, every choice
named in its text."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.measures.grounding import Grounding, PhraseScore, measure_correctness
from evaluation.measures.maps import MapData
from evaluation.report.map_sheets import Card, CardPanel, draw_map, draw_sheet, encode_jpeg
from evaluation.report.maps_page import ShownModel, choose_phrases, render_maps_page
from models.bundles.checkpoint import load_checkpoint
from models.geometry import WHOLE_IMAGE, Box
from models.loading import build_captioner
from models.preprocessing import DecodeLimits
from tests.unit.toys import save_tiny_bundle
from training.data.datasets import CaptionedImage
from training.data.flickr30k_entities import GroundedCaption, Phrase
from training.data.layouts import DataError

BOX = Box(0.25, 0.25, 0.75, 0.5)
GREEN = (0, 160, 0)


def score(image: int, mass: float, share: float = 0.2, start: int = 0) -> PhraseScore:
    numbers = dict.fromkeys(PhraseScore._fields[3:], 0.0) | {"mass": mass, "share": share}
    return PhraseScore(image, 0, Phrase(start, start + 1, (BOX,)), **numbers)


def test_choose_phrases_every_hundredth_image_gives_its_first_phrase_whatever_its_maps() -> None:
    for mass in (0.1, 0.9):
        scores = [
            score(0, mass, start=1),
            score(0, 0.4, start=2),
            score(99, 0.5),
            score(200, mass, share=0.9),
        ]
        # The 1st and the 201st.
        assert choose_phrases(Grounding(400, tuple(scores)))["every"] == [0, 3]


def test_choose_phrases_best_and_worst_are_six_images_with_boxes_neither_large_nor_tiny() -> None:
    scores = [score(image, image / 20) for image in range(20)]
    scores += [score(19, 0.99, start=1), score(0, 1.0, share=0.5), score(1, 0.0, share=0.01)]
    chosen = choose_phrases(Grounding(20, tuple(scores)))
    assert chosen["best"] == [20, 18, 17, 16, 15, 14]
    assert chosen["worst"] == [0, 1, 2, 3, 4, 5]


# -- the page ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def data(folder: Path) -> MapData:
    """A hundred images, all green: what is green on a sheet is an image's."""
    Image.new("RGB", (60, 45), GREEN).save(folder / "green.png")
    images = [CaptionedImage(f"{place}.png", folder / "green.png", ()) for place in range(1, 101)]
    caption = GroundedCaption(("a", "red", "dog", "sits"), (Phrase(0, 3, (BOX,)),))
    names = {"correctness": "drawn test", "pointing": "boxes", "deletion": "drawn dev"}
    return MapData(names, images, {image.key: (caption,) for image in images}, (), {}, ())


@pytest.fixture(scope="module")
def shown(folder: Path, data: MapData) -> list[ShownModel]:
    captioners = [
        build_captioner(
            load_checkpoint(save_tiny_bundle(folder / name, attention=attention)),
            precision="float32",
        )
        for name, attention in (("before", "additive"), ("after", "dot-product"))
    ]
    return [
        ShownModel(each, measure_correctness(each, data.test, data.grounding))
        for each in captioners
    ]


def greenest(content: bytes) -> int:
    """How much greener than red and blue the greenest pixel of an image is."""
    with Image.open(BytesIO(content)) as image:
        assert image.format == "JPEG"
        pixels = np.asarray(image.convert("RGB"), dtype=np.int64)
    return int((pixels[..., 1] - pixels[..., [0, 2]].max(axis=-1)).max())


def test_render_maps_page_shows_and_names_every_choice_of_both_models(
    shown: list[ShownModel], data: MapData
) -> None:
    page = render_maps_page(shown, data)
    assert set(page.images) == {"maps-every.jpg", "maps-best.jpg", "maps-worst.jpg"}
    assert all(f"](images/{file})" in page.text for file in page.images)
    assert page.text.count("**a red dog** sits: before ") == 1 + 6 + 6
    before, after = (each.measured.phrases[0] for each in shown)
    inside = f"before {before.mass:.0%} inside, after {after.mass:.0%} inside"
    assert f"{inside} (photo 1, boxes cover {before.share:.0%} of the grid; 1.png)" in page.text
    assert "the most of `after`'s map" in page.text
    assert "captions of drawn test" in page.text


def test_render_maps_page_shows_images_only_where_they_are_asked_for(
    shown: list[ShownModel], data: MapData
) -> None:
    for with_images in (False, True):
        page = render_maps_page(shown, data, with_images=with_images)
        assert all((greenest(content) > 40) == with_images for content in page.images.values())
        assert ("plain gray in place of the photo" in page.text) != with_images


def test_render_maps_page_best_are_those_of_the_last_model(
    shown: list[ShownModel], data: MapData
) -> None:
    """The maps being made up: the best of one model are the worst of the other."""
    phrases = [each._replace(share=0.2) for each in shown[0].measured.phrases]
    rising = Grounding(100, tuple(each._replace(mass=each.image / 100) for each in phrases))
    falling = Grounding(100, tuple(each._replace(mass=1 - each.image / 100) for each in phrases))
    captioner = shown[0].captioner
    text = render_maps_page(
        [ShownModel(captioner, rising), ShownModel(captioner, falling)], data
    ).text
    best = text[text.index("the most of") : text.index("the least")]
    assert [f"photo {place}," in best for place in (1, 6, 7, 100)] == [True, True, False, False]


def test_render_maps_page_example_is_captioned_with_its_pixels(
    shown: list[ShownModel], data: MapData, folder: Path
) -> None:
    page = render_maps_page(shown, data, [folder / "green.png"])
    captioner = shown[-1].captioner
    prepared = captioner.prepare((folder / "green.png").read_bytes(), DecodeLimits())
    (caption,) = captioner.caption([prepared], captioner.info.config.decoding)
    assert f"![{caption.hypotheses[0].text}](images/maps-green.jpg)" in page.text
    assert greenest(page.images["maps-green.jpg"]) > 40


def test_render_maps_page_damaged_example_is_a_data_error(
    shown: list[ShownModel], data: MapData, tmp_path: Path
) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cat\.jpg cannot be captioned"):
        render_maps_page(shown, data, [tmp_path / "cat.jpg"])


def test_render_maps_page_models_measured_on_other_phrases_are_refused(
    shown: list[ShownModel], data: MapData
) -> None:
    other = Grounding(100, shown[1].measured.phrases[1:])
    with pytest.raises(ValueError, match="same phrases"):
        render_maps_page([shown[0], ShownModel(shown[1].captioner, other)], data)


def test_maps_page_write_puts_page_and_images_where_its_links_lead(
    shown: list[ShownModel], data: MapData, tmp_path: Path
) -> None:
    page = render_maps_page(shown[:1], data)
    written = page.write(tmp_path / "new")
    assert {path.relative_to(tmp_path / "new").as_posix() for path in written} == {
        "maps.md", "images/maps-every.jpg", "images/maps-best.jpg", "images/maps-worst.jpg",
    }  # fmt: skip
    assert (tmp_path / "new" / "maps.md").read_text(encoding="utf-8") == page.text
    assert (tmp_path / "new" / "images" / "maps-best.jpg").read_bytes() == page.images[
        "maps-best.jpg"
    ]


# -- what is drawn ----


def test_draw_map_is_bright_where_the_map_is_and_white_along_the_boxes() -> None:
    alpha = np.zeros((14, 14), dtype=np.float32)
    alpha[2, 11] = 1.0
    drawn = draw_map((400, 200), alpha, WHOLE_IMAGE, [BOX])
    assert drawn.size == (224, 112)
    brightness = np.asarray(drawn.convert("L"), dtype=np.int64)
    middle = brightness[round(0.375 * 112)]
    for edge in (BOX[0], BOX[2]):
        around = middle[round(edge * 223) - 5 : round(edge * 223) + 6]
        assert (int(around.max()), int(around.min())) == (255, 0)
    outside = np.ma.masked_array(brightness, mask=np.zeros_like(brightness, dtype=bool))
    outside[
        round(BOX[1] * 111) - 1 : round(BOX[3] * 111) + 2,
        round(BOX[0] * 223) - 1 : round(BOX[2] * 223) + 2,
    ] = np.ma.masked
    top, left = np.unravel_index(int(outside.argmax()), outside.shape)
    assert (top / 112, left / 224) == pytest.approx((2.5 / 14, 11.5 / 14), abs=0.03)


def test_draw_map_box_of_no_size_is_left_out() -> None:
    alpha = np.full((2, 2), 0.25, dtype=np.float32)
    with_box = draw_map((90, 90), alpha, WHOLE_IMAGE, [Box(0.5, 0.5, 0.501, 0.501)])
    assert with_box.tobytes() == draw_map((90, 90), alpha, WHOLE_IMAGE, []).tobytes()


def card(number: int, words: int, panels: int = 1, height: int = 224) -> Card:
    drawn = Image.new("RGB", (224, height), (255, 0, 0))
    return Card(
        number,
        ("word",) * words,
        0,
        1,
        (CardPanel(drawn, "name", "remark"),) * panels,
        ("here", "there"),
    )


def red_boxes(sheet: Image.Image) -> int:
    pixels = np.asarray(sheet, dtype=np.int64)
    return int(((pixels[..., 0] > 200) & (pixels[..., 1] < 40)).sum())


@pytest.mark.parametrize(("cards", "panels"), [(1, 1), (5, 1), (3, 2), (2, 6)])
def test_draw_sheet_every_map_is_whole_however_long_the_captions(cards: int, panels: int) -> None:
    sheet = draw_sheet(
        [card(number, words=1 + 40 * (number % 2), panels=panels) for number in range(cards)]
    )
    assert red_boxes(sheet) == cards * panels * 224 * 224


def test_draw_sheet_marked_words_have_a_color_of_their_own() -> None:
    def orange(start: int, end: int) -> int:
        panels = (CardPanel(Image.new("RGB", (224, 10)), "name", "remark"),)
        pixels = np.asarray(
            draw_sheet([Card(1, ("a", "red", "dog"), start, end, panels, ())]), dtype=np.int64
        )
        return int(((pixels[..., 0] > 200) & (pixels[..., 2] < 110)).sum())

    assert orange(0, 0) == 0
    assert 0 < orange(2, 3) < orange(0, 3)


def test_encode_jpeg_stays_below_its_limit() -> None:
    noise = (
        torch.randint(256, (300, 400, 3), generator=torch.Generator().manual_seed(0))
        .to(torch.uint8)
        .numpy()
    )
    whole = encode_jpeg(Image.fromarray(noise), 1e9)
    small = encode_jpeg(Image.fromarray(noise), 20_000)
    assert len(small) < 20_000 < len(whole)
    with Image.open(BytesIO(whole)) as kept, Image.open(BytesIO(small)) as shrunk:
        assert kept.size == (400, 300)
        assert shrunk.width < 400
        assert shrunk.width / shrunk.height == pytest.approx(4 / 3, abs=0.03)
