"""The page of maps: chosen by its rule, small enough to commit, and with every choice accounted for in its text."""

from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.captioner import TorchCaptioner
from models.checkpoint import load_checkpoint
from tests.unit.toys import save_tiny_bundle
from training.data import Photo
from training.entities import Box, GroundedCaption, Phrase
from training.grounding import Grounding, Look, measure_correctness
from training.maps_page import choose_looks, render_maps_page

BOX: Box = (0.25, 0.25, 0.75, 0.5)


def look(photo: int, mass: float, share: float = 0.2, start: int = 0) -> Look:
    numbers = dict.fromkeys(Look._fields[3:], 0.0) | {"mass": mass, "share": share}
    return Look(photo, 0, Phrase(start, start + 1, (BOX,)), **numbers)


def test_choose_looks_every_hundredth_photo_gives_its_first_phrase() -> None:
    looks = [look(99, 0.3, start=1), look(99, 0.4, start=2), look(100, 0.5), look(299, 0.1, share=0.9)]
    chosen = choose_looks(Grounding(400, tuple(looks)))["every"]
    assert chosen == [looks[0], looks[3]]


def test_choose_looks_best_and_worst_are_six_photos_with_boxes_neither_large_nor_tiny() -> None:
    looks = [look(photo, photo / 20) for photo in range(20)]
    looks += [look(19, 0.99, start=1), look(0, 1.0, share=0.5), look(1, 0.0, share=0.01)]
    chosen = choose_looks(Grounding(20, tuple(looks)))
    assert [(each.photo, each.mass) for each in chosen["best"]] == [
        (19, 0.99),
        *((photo, photo / 20) for photo in (18, 17, 16, 15, 14)),
    ]
    assert [each.photo for each in chosen["worst"]] == [0, 1, 2, 3, 4, 5]


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    """A hundred photos, of which all but the last are the same small file; the last is wide."""
    noise = torch.randint(256, (300, 400, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
    Image.fromarray(noise[:56, :56]).save(tmp_path / "small.png")
    Image.fromarray(noise).save(tmp_path / "wide.png")
    return [Photo(str(place), tmp_path / ("wide.png" if place == 100 else "small.png"), ()) for place in range(1, 101)]


def test_render_maps_page_shows_and_names_every_choice(tmp_path: Path, photos: list[Photo]) -> None:
    captioner = TorchCaptioner(load_checkpoint(save_tiny_bundle(tmp_path / "tiny")), precision="float32")
    caption = GroundedCaption(("a", "red", "dog", "sits"), (Phrase(0, 3, (BOX,)),))
    grounding = {photo.key: (caption,) for photo in photos}
    measured = measure_correctness(captioner, photos, grounding)
    page = render_maps_page(captioner, photos, grounding, measured, pictures_folder="pictures")
    assert set(page.pictures) == {"maps-tiny-every.jpg", "maps-tiny-best.jpg", "maps-tiny-worst.jpg"}
    assert all(f"](pictures/{file})" in page.text for file in page.pictures)
    assert page.text.count("**a red dog** sits") == 1 + 6 + 6
    assert "(`100`, place 100)" in page.text
    assert f"{measured.looks[99].mass:.0%} of the map in {measured.looks[99].share:.0%} of the grid" in page.text
    for content in page.pictures.values():
        assert len(content) < 150_000
        with Image.open(BytesIO(content)) as sheet:
            assert sheet.format == "JPEG"
    edge = 10 + round(BOX[0] * 260)  # a gap of 10, a panel of 260 x 195 in the middle of 260 x 260
    middle = 10 + 32 + round(195 * (BOX[1] + BOX[3]) / 2)
    with Image.open(BytesIO(page.pictures["maps-tiny-every.jpg"])) as sheet:
        assert max(sheet.convert("L").getpixel((edge + step, middle)) for step in (-1, 0, 1)) > 160
