"""The table says what was measured, claims no more than its numbers do, and leaves alone what is
not its own."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evaluation.captioning import caption_photos
from evaluation.measures.comparison import Table, in_order, measure_table, side_by_side_positions
from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.metrics.score import score_captions
from evaluation.report import results_page
from evaluation.report.markdown import markdown_table
from evaluation.report.results_page import page, short_form, write_results
from models.captioner import NetworkCaptioner
from models.loading import load_captioner
from tests.unit.workspaces import NAMES, table_place
from training.data.datasets import CaptionedImage

pytestmark = pytest.mark.usefixtures("without_java")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def captioners(place: Path) -> list[NetworkCaptioner]:
    return [load_captioner(place / "weights", name) for name in NAMES]


@pytest.fixture(scope="module")
def sets(place: Path) -> dict[str, list[CaptionedImage]]:
    """Every second photo shows a dog, if its references are to be believed."""
    files = sorted((place / "data" / "shapes" / "images").iterdir())
    dogs = ("A dog runs.", "The dog sits on grass.")
    captions = [
        dogs if number % 2 else ("A red cat.", "On the grass.") for number in range(len(files))
    ]
    photos = [
        CaptionedImage(file.name, file, texts) for file, texts in zip(files, captions, strict=True)
    ]
    return {"drawn test": photos[:42], "drawn dev": photos[42:]}


@pytest.fixture(scope="module")
def table(captioners: list[NetworkCaptioner], sets: dict[str, list[CaptionedImage]]) -> Table:
    path = sets["drawn test"][0].path
    assert path is not None
    return measure_table(captioners, sets, [path], "glimpse-train table", lambda _: None)


# -- what is measured ----


def test_measure_table_scores_are_those_of_what_is_served(
    table: Table, captioners: list[NetworkCaptioner], sets: dict[str, list[CaptionedImage]]
) -> None:
    for captioner in captioners:
        row = table.results["models"][captioner.info.name]
        for name, photos in sets.items():
            served = caption_photos(
                captioner, photos, captioner.info.config.decoding, lambda _: None
            )
            expected = score_captions(
                [photo.captions for photo in photos], served, with_meteor=False
            )
            found = {metric: score["value"] for metric, score in row["scores"][name].items()}
            assert found.pop(MAIN_OBJECT) is not None
            assert found == {score.name: pytest.approx(score.value, abs=5e-5) for score in expected}
            written = table.metrics[captioner.info.name]["sets"][name]
            assert {metric: written[metric] for metric in found} == found


def test_measure_table_intervals_hold_their_values(table: Table) -> None:
    for row in table.results["models"].values():
        for score in row["scores"]["drawn test"].values():
            assert score["low"] <= score["value"] <= score["high"]


def test_measure_table_is_json_and_says_what_made_it(table: Table) -> None:
    results = json.loads(json.dumps(table.results, allow_nan=False))
    assert results["test"] == "drawn test"
    assert results["sets"]["drawn test"]["photos"] == 42
    assert results["machine"]["processor"]
    assert results["machine"]["precision"] in ("bfloat16", "float32")
    for row in results["models"].values():
        assert 0 < row["decoder_parameters"] < row["parameters"]
        assert min(row["encoder_milliseconds"], row["decoder_milliseconds"]) >= 0


def test_measure_table_main_object_counts_photos_that_have_one(table: Table) -> None:
    assert table.results["models"]["nic"]["scores"]["drawn test"][MAIN_OBJECT]["photos"] == 21


def test_measure_table_models_that_caption_alike_are_not_told_apart(table: Table) -> None:
    found = {
        (each["metric"], each["first"], each["second"]): each
        for each in table.results["differences"]
    }
    assert len(found) == 6
    for metric in ("CIDEr-D", "BLEU-4"):
        same = found[metric, "soft-attention", "nic"]
        assert (same["value"], same["is_real"], same["other_sign"]) == (0.0, False, 1.0)


def test_measure_table_twice_gives_the_same_numbers(
    table: Table, captioners: list[NetworkCaptioner], sets: dict[str, list[CaptionedImage]]
) -> None:
    again = measure_table(captioners, sets, [], "glimpse-train table", lambda _: None)
    assert again.metrics == table.metrics
    assert again.results["differences"] == table.results["differences"]
    assert again.results["side_by_side"] == table.results["side_by_side"]


def test_side_by_side_positions_follow_the_written_rule() -> None:
    assert side_by_side_positions(1000) == [
        40,
        123,
        206,
        289,
        372,
        455,
        538,
        621,
        704,
        787,
        870,
        953,
    ]
    assert side_by_side_positions(41) == [40]
    assert side_by_side_positions(39) == []


def test_in_order_goes_from_the_first_of_the_line_to_the_newcomers() -> None:
    assert in_order(
        ["zebra", "transformer", "soft-attention", "glimpse", "base", "apple", "nic"]
    ) == [*("nic", "base", "soft-attention", "transformer", "glimpse", "apple", "zebra")]


# -- what is written ----


def difference(
    first: str, second: str, value: float, low: float, high: float
) -> list[dict[str, Any]]:
    told = {
        "first": first,
        "second": second,
        "value": value,
        "low": low,
        "high": high,
        "other_sign": 0.04,
    }
    return [
        {"metric": metric, **told, "is_real": low > 0 or high < 0}
        for metric in ("CIDEr-D", "BLEU-4")
    ]


def with_difference(table: Table, *measured: float) -> str:
    """The page of the last two models, with a difference of hard from soft attention that is
    made up."""
    models = {name: table.results["models"][name] for name in NAMES[1:]}
    return page(
        {**table.results, "models": models, "differences": difference(*NAMES[:0:-1], *measured)}
    )


@pytest.mark.parametrize(
    ("measured", "claim"),
    [
        ((0.02, 0.005, 0.04), "CIDEr-D really higher, +2.0 (+0.5 to +4.0)"),
        ((-0.02, -0.04, -0.005), "CIDEr-D really lower, -2.0 (-4.0 to -0.5)"),
        (
            (0.02, -0.001, 0.04),
            "CIDEr-D not told apart, +2.0 (-0.1 to +4.0), 4 % of resamples against it",
        ),
    ],
)
def test_page_claims_a_difference_only_where_its_interval_does(
    table: Table, measured: tuple[float, float, float], claim: str
) -> None:
    text = with_difference(table, *measured)
    assert f"* `hard-attention`: {claim}" in text
    assert ("really" in claim) == bool(re.search(r"\breally\b", text))


def test_page_difference_kept_the_other_way_is_turned_round(table: Table) -> None:
    models = {name: table.results["models"][name] for name in NAMES[1:]}
    found = difference("soft-attention", "hard-attention", 0.02, 0.005, 0.04)
    text = page({**table.results, "models": models, "differences": found})
    assert "* `hard-attention`: CIDEr-D really lower, -2.0 (-4.0 to -0.5)" in text


def test_page_tells_every_model_and_marks_what_is_published(table: Table) -> None:
    text = page(table.results)
    for name in NAMES:
        assert f"| `{name}` |" in text
    for line in text.splitlines():
        assert ("et al. 20" in line and line.startswith("|")) == line.startswith("| *published:*")
    assert "METEOR 1.5 is the reference program, and was left out here: it needs Java." in text
    assert "**40: `" in text
    assert "A quick look" not in text
    assert "of four others, four fifths are all four" in text
    assert "What is not held equal" not in text


def test_page_one_model_alone_has_no_differences(
    captioners: list[NetworkCaptioner], sets: dict[str, list[CaptionedImage]]
) -> None:
    alone = measure_table(
        captioners[:1], {"drawn test": sets["drawn test"][:3]}, [], "x", lambda _: None
    )
    text = page(alone.results)
    assert "differences" not in text
    assert "Side by side" not in text


def test_page_why_not_shipped_claims_what_was_measured(table: Table) -> None:
    def score(value: float) -> dict[str, Any]:
        return {
            **models["nic"],
            "scores": {name: {"CIDEr-D": {**low, "value": value}} for name in sets},
        }

    models, sets = table.results["models"], table.results["sets"]
    low = {"low": 0.0, "high": 1.0, "photos": 42}
    results = {**table.results, "not_shipped": ["nic"], "origins": {"nic": {"encoder_begun": 0.0}}}
    shown = results_page._why_not_shipped(
        {**results, "models": {"nic": score(0.2), "soft-attention": score(0.5)}}, "nic"
    )
    assert (
        "Its CIDEr-D is 30.0 below that of the lowest shipped model. Its encoder began with random "
        "weights" in shown
    )
    better = results_page._why_not_shipped(
        {**results, "models": {"nic": score(0.6), "soft-attention": score(0.5)}}, "nic"
    )
    assert "below" not in better


def test_page_section_is_a_function_of_the_results(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = (*results_page.SECTIONS, ("more", lambda results: results["more"]))
    monkeypatch.setattr(results_page, "SECTIONS", added)
    assert page({**table.results, "more": "## More"}).endswith("\n\n## More\n")
    assert page({"more": "## More"}) == "# Results\n\n## More\n"
    assert not page(table.results).endswith("\n\n")


def test_markdown_table_bar_in_a_caption_stays_in_its_cell() -> None:
    assert markdown_table(["", "caption"], [["a", "left | right"]]).endswith(
        "| a | left \\| right |"
    )


def test_write_results_readme_changes_between_its_marks_alone(table: Table, tmp_path: Path) -> None:
    readme, output = tmp_path / "README.md", tmp_path / "docs" / "results.md"
    readme.write_text(
        "before\n<!-- begin table -->\nold\n<!-- end table -->\nafter\n", encoding="utf-8"
    )
    assert write_results(table.results, output, readme) == [
        output,
        output.with_suffix(".json"),
        readme,
    ]
    assert output.read_text(encoding="utf-8") == page(table.results)
    assert json.loads(output.with_suffix(".json").read_text(encoding="utf-8")) == table.results
    expected = (
        f"before\n<!-- begin table -->\n{short_form(table.results)}\n<!-- end table -->\nafter\n"
    )
    assert readme.read_text(encoding="utf-8") == expected
    write_results(table.results, output, readme)
    assert readme.read_text(encoding="utf-8") == expected


def test_write_results_readme_without_marks_or_absent_is_left_alone(
    table: Table, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no marks\n", encoding="utf-8")
    for given in (readme, tmp_path / "absent.md", None):
        assert len(write_results(table.results, tmp_path / "results.md", given)) == 2
    assert readme.read_text(encoding="utf-8") == "no marks\n"
