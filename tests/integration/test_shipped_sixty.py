"""The page of the sixty pictures is that of the shipped default model, and where that model knows
nothing its confidence says so."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.settings import DEFAULT_MODEL
from evaluation.jobs.sixty import caption_things
from evaluation.report.sixty_page import card_paragraph, render_sixty
from evaluation.report.sixty_results import SixtyResult, read_sixty, read_verdicts
from evaluation.report.thing_images import choose_everyday, find_pictures
from evaluation.report.things import UNSURE_KINDS, read_things
from models.captioner import NetworkCaptioner
from models.loading import describe_captioner
from training.data.datasets import DatasetConfig, read_dataset

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
VERDICTS = read_verdicts(DOCS / "sixty-verdicts.json")


@pytest.fixture(scope="module")
def said() -> SixtyResult:
    """What the page says that the default model says."""
    result = read_sixty(DOCS / "sixty.json")
    assert result is not None
    return result


def test_page_is_of_the_shipped_default_model_and_every_caption_is_judged(
    said: SixtyResult,
) -> None:
    info = describe_captioner(ROOT / "weights", DEFAULT_MODEL)
    assert (said.model, said.digest) == (DEFAULT_MODEL, info.digest)
    assert [thing.name for thing in said.things] == [thing.name for thing in read_things()]
    assert [thing.kind for thing in said.things] == [thing.kind for thing in read_things()]
    assert said.counts(VERDICTS)["not judged yet"] == 0


def test_page_and_card_are_made_of_the_captions_and_verdicts(said: SixtyResult) -> None:
    page = (DOCS / "sixty.md").read_text(encoding="utf-8")
    assert page == render_sixty(said, VERDICTS, Path("images/sixty.jpg"))
    assert (DOCS / "images" / "sixty.jpg").is_file()
    card = (ROOT / "weights" / DEFAULT_MODEL / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card_paragraph(said, VERDICTS, said.digest) in card


def test_page_names_the_everyday_photos_that_the_rule_chooses(
    said: SixtyResult, shared_data: Path
) -> None:
    everyday = DatasetConfig(
        name="everyday",
        kind="coco",
        root=shared_data / "coco-sample",
        split="all",
        include_keys_file=ROOT / "training" / "configs" / "everyday-dev.txt",
        max_problems=10,
    )
    chosen = choose_everyday(read_things(), read_dataset(everyday)[0])
    sources = {thing.name: thing.source for thing in said.things}
    assert {name: sources[name] for name in chosen} == {
        name: f"COCO, `{image.key}`" for name, image in chosen.items()
    }


def test_confidence_of_what_is_no_photo_is_below_the_right_captions_median(
    shipped: Callable[..., NetworkCaptioner], said: SixtyResult
) -> None:
    """As this machine captions, beside the median of the page."""
    limit = said.median_confidence(VERDICTS, "right")
    assert limit is not None
    things = [thing for thing in read_things() if thing.kind in UNSURE_KINDS]
    now = caption_things(shipped(DEFAULT_MODEL), find_pictures(things, []))
    assert len(now.things) == 14
    found = now.model_copy(update={"things": (*now.things, *said.things)})
    assert [thing.name for thing in found.too_sure(VERDICTS)] == []
    assert sum(thing.confidence < 0.05 for thing in now.things) >= 12
