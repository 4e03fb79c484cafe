"""The sixty things have their pictures, a verdict stands by its caption alone, and the page counts
what it says."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from evaluation.jobs.bundles import Messages
from evaluation.jobs.sixty import SixtyRequest, write_sixty_page
from evaluation.report.made_images import ALTERED, MADE
from evaluation.report.sixty_page import card_paragraph, render_sixty
from evaluation.report.sixty_results import (
    SixtyResult,
    ThingResult,
    judgement,
    read_sixty,
    read_verdicts,
    write_sixty,
    write_verdicts,
)
from evaluation.report.thing_images import choose_everyday, find_pictures
from evaluation.report.things import UNSURE_KINDS, Kind, Thing, read_things
from models.errors import ConfigError
from models.preprocessing import decode_image
from tests.unit.toys import save_tiny_bundle
from training.data.datasets import CaptionedImage, DataError


def result(**captions: tuple[Kind, str, float]) -> SixtyResult:
    things = tuple(
        ThingResult(name=name, kind=kind, source="made", caption=caption, confidence=confidence)
        for name, (kind, caption, confidence) in captions.items()
    )
    return SixtyResult(model="tiny", digest="abc", things=things)


SAID = result(
    cat=("photo", "a cat", 0.8),
    dog=("photo", "a dog", 0.6),
    cup=("photo", "a bowl", 0.3),
    noise=("noise", "a carpet", 0.7),
    house=("drawing", "a drawing of a house", 0.9),
    black=("plain", "a man", 0.2),
)
VERDICTS = {
    "cat": {"a cat": "right"},
    "dog": {"a dog": "right: if small", "a sheep": "wrong"},
    "cup": {"a cup": "right", "a bowl": "half right: a cup, not a bowl"},
    "noise": {"a carpet": "wrong"},
    "house": {"a drawing of a house": "right"},
    "black": {"a woman": "wrong"},
}


# -- the list and its pictures ----


def test_things_are_sixty_of_every_kind_each_with_a_name_of_its_own() -> None:
    things = read_things()
    assert len(things) == len({thing.name for thing in things}) == 60
    assert {thing.kind for thing in things} > set(UNSURE_KINDS)


@pytest.mark.parametrize("sources", [{}, {"file": "a.png", "made": "black"}, {"words": []}])
def test_thing_without_exactly_one_source_is_refused(sources: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Thing.model_validate({"name": "a cat", **sources})


def test_pictures_that_may_be_shown_are_all_there_and_the_same_each_time() -> None:
    shown = [thing for thing in read_things() if thing.may_be_shown]
    pictures = find_pictures(shown, [])
    made = [picture for picture in pictures if picture.thing.made is not None]
    assert find_pictures([picture.thing for picture in made], []) == made
    assert len({picture.data for picture in pictures}) == len(shown)
    for picture in pictures:
        assert min(decode_image(picture.data).rgb.size) > 100
    assert {thing.made for thing in shown} - {None} == MADE.keys() | ALTERED.keys()


def everyday(**captions: list[str]) -> list[CaptionedImage]:
    return [CaptionedImage(key, None, tuple(texts)) for key, texts in captions.items()]


def test_everyday_photo_is_the_first_that_four_captions_name_and_nobody_has() -> None:
    photos = everyday(
        three=["A bike.", "A bicycle!", "bikes", "a bike", "a man"],
        first=["A bike.", "A bicycle!", "red bike", "a bike", "a man"],
        second=["A bike."] * 5,
    )
    things = [
        Thing(name="a bicycle", words=("bike", "bicycle")),
        Thing(name="a black picture", made="black"),
        Thing(name="another", words=("bike",)),
    ]
    chosen = choose_everyday(things, photos)
    assert {name: image.key for name, image in chosen.items()} == {
        "a bicycle": "first",
        "another": "second",
    }
    with pytest.raises(DataError, match="say bike, for 'a third'"):
        choose_everyday([*things, Thing(name="a third", words=("bike",))], photos)


# -- what is said of them, and what is said of that ----


def test_judgement_is_of_one_caption_alone() -> None:
    assert [judgement(VERDICTS, thing) for thing in SAID.things] == [
        "right",
        "right",
        "half right",
        "wrong",
        "right",
        "not judged yet",
    ]


def test_too_sure_is_what_is_no_photo_and_not_below_the_median_of_right_captions() -> None:
    assert SAID.median_confidence(VERDICTS, "right") == 0.8
    assert SAID.too_sure(VERDICTS) == []
    surer = SAID.model_copy(
        update={"things": (*SAID.things, *result(text=("text", "x", 0.8)).things)}
    )
    assert [thing.name for thing in surer.too_sure(VERDICTS)] == ["text"]
    assert SAID.too_sure({}) == []


def test_written_captions_and_verdicts_are_read_again(tmp_path: Path) -> None:
    write_sixty(tmp_path / "sixty.json", SAID)
    assert read_sixty(tmp_path / "sixty.json") == SAID
    assert read_sixty(tmp_path / "none.json") is None
    write_verdicts(tmp_path / "verdicts.json", VERDICTS, SAID.things)
    again = read_verdicts(tmp_path / "verdicts.json")
    assert again == {**VERDICTS, "black": {"a man": "", "a woman": "wrong"}}
    assert list(again) == [thing.name for thing in SAID.things]
    assert read_verdicts(tmp_path / "none.json") == {}


def test_verdict_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.json"
    path.write_text(json.dumps({"cat": {"a cat": "rigth"}}), encoding="utf-8")
    with pytest.raises(ConfigError, match="'rigth' of 'cat' must begin with right, half right or"):
        read_verdicts(path)


def test_page_shows_each_caption_with_its_verdict_and_a_stale_one_as_not_judged() -> None:
    page = render_sixty(SAID, VERDICTS)
    assert "| 2 | dog<br><sub>made</sub> | a dog | 0.60 | right: if small |" in page
    assert "| 6 | black<br><sub>made</sub> | a man | 0.20 | not judged yet |" in page
    assert "| all | 6 | 3 | 1 | 1 | 1 |" in page
    assert "| share, % |  | 50.0 | 16.7 | 16.7 | 16.7 |" in page
    assert "| median confidence |  | 0.80 | 0.30 | 0.70 | 0.20 |" in page
    assert "That median is 0.80, and of 3 such captions 0 do not lie below it." in page
    assert "objects" not in page.partition("## One by one")[2]
    assert "not judged yet" not in render_sixty(
        SAID.model_copy(update={"things": SAID.things[:3]}), VERDICTS
    )


def test_page_shows_objects_where_a_model_looked_for_them() -> None:
    cat = SAID.things[0].model_copy(update={"objects": ("cat", "bowl")})
    page = render_sixty(SAID.model_copy(update={"things": (cat, *SAID.things[1:])}), VERDICTS)
    assert "| a cat | cat, bowl | 0.80 | right |" in page
    assert "| a dog | – | 0.60 |" in page


def test_card_says_the_shares_of_the_same_weights_alone() -> None:
    text = card_paragraph(SAID, VERDICTS, "abc")
    assert "50.0 % right, 16.7 % half right and 16.7 % wrong" in text
    assert text.endswith("1 are not judged yet.")
    assert card_paragraph(SAID, VERDICTS, "other") == ""
    assert card_paragraph(None, VERDICTS, "abc") == ""


def test_command_captions_all_and_makes_places_for_verdicts_beside_those_that_are_there(
    shared_data: Path, repository: Path, tmp_path: Path
) -> None:
    save_tiny_bundle(tmp_path / "weights" / "tiny")
    before = {"a cat": {"a cat": "right"}}
    verdicts = tmp_path / "sixty-verdicts.json"
    verdicts.write_text(json.dumps(before), encoding="utf-8")
    warnings: list[str] = []
    request = SixtyRequest(
        experiment=repository / "training" / "configs" / "base.toml",
        data_folder=shared_data,
        weights_folder=tmp_path / "weights",
        model="tiny",
        output=tmp_path / "sixty.md",
        precision="float32",
        photos_sheet=tmp_path / "all.jpg",
    )
    write_sixty_page(request, Messages(lambda _: None, warnings.append))
    assert "60 captions are not judged yet" in warnings[-1]
    said = read_sixty(tmp_path / "sixty.json")
    assert said is not None
    assert [thing.name for thing in said.things] == [thing.name for thing in read_things()]
    after = read_verdicts(verdicts)
    assert after["a cat"] == {said.things[0].caption: "", "a cat": "right"}
    assert after["a dog"].keys() == {
        thing.caption for thing in said.things if thing.name == "a dog"
    }
    page = (tmp_path / "sixty.md").read_text(encoding="utf-8")
    assert page == render_sixty(said, before, Path("images/sixty.jpg"))
    shown = decode_image((tmp_path / "images" / "sixty.jpg").read_bytes()).rgb
    assert shown.size < decode_image((tmp_path / "all.jpg").read_bytes()).rgb.size
