"""The table says what was measured, claims no more than its numbers do, and leaves alone what is
not its own."""

import re
from pathlib import Path

import pytest

from evaluation.captioning import caption_images
from evaluation.measures.comparison import (
    MeasuredTable,
    measure_table,
    side_by_side_positions,
)
from evaluation.metrics.echoes import ECHOES, echo_share
from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.report import results_page
from evaluation.report.catalog import read_catalog
from evaluation.report.markdown import markdown_table, percent
from evaluation.report.readme_table import short_form
from evaluation.report.results_page import page, write_results
from evaluation.report.sections.scores import why_not_shipped
from evaluation.results import Difference, Lineage, MetricScore, ModelResult, Results, Table
from evaluation.scoring import score_captions
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
    """Every second image shows a dog, if its references are to be believed."""
    files = sorted((place / "data" / "shapes" / "images").iterdir())
    dogs = ("A dog runs.", "The dog sits on grass.")
    captions = [
        dogs if number % 2 else ("A red cat.", "On the grass.") for number in range(len(files))
    ]
    images = [
        CaptionedImage(file.name, file, texts) for file, texts in zip(files, captions, strict=True)
    ]
    return {"drawn test": images[:42], "drawn dev": images[42:]}


@pytest.fixture(scope="module")
def measured(
    captioners: list[NetworkCaptioner], sets: dict[str, list[CaptionedImage]]
) -> MeasuredTable:
    path = sets["drawn test"][0].path
    assert path is not None
    return measure_table(captioners, sets, [path], "glimpse-train table")


@pytest.fixture(scope="module")
def table(measured: MeasuredTable) -> Table:
    return measured.table


# -- what is measured ----


def test_measure_table_scores_are_those_of_what_is_served(
    measured: MeasuredTable,
    captioners: list[NetworkCaptioner],
    sets: dict[str, list[CaptionedImage]],
) -> None:
    for captioner in captioners:
        row = measured.table.models[captioner.info.name]
        for name, images in sets.items():
            served = caption_images(captioner, images, captioner.info.config.decoding)
            expected = score_captions(
                [image.captions for image in images], served, with_meteor=False
            )
            found = {metric: score.value for metric, score in row.scores[name].items()}
            assert found.pop(MAIN_OBJECT) is not None
            assert found.pop(ECHOES) == pytest.approx(echo_share(served).value, abs=5e-5)
            assert found == {score.name: pytest.approx(score.value, abs=5e-5) for score in expected}
            written = measured.metrics[captioner.info.name]["sets"][name]
            assert {metric: written[metric] for metric in found} == found


def test_measure_table_intervals_hold_their_values(table: Table) -> None:
    for row in table.models.values():
        for score in row.scores["drawn test"].values():
            assert score.low is not None
            assert score.value is not None
            assert score.high is not None
            assert score.low <= score.value <= score.high


def test_measure_table_is_json_and_says_what_made_it(table: Table) -> None:
    results = Results.model_validate_json(Results(table=table).dump())
    assert results == Results(table=table)
    assert table.test == "drawn test"
    assert table.sets["drawn test"].images == 42
    assert table.machine.processor
    assert table.machine.precision in ("bfloat16", "float32")
    for row in table.models.values():
        assert 0 < row.decoder_parameters < row.parameters
        assert min(row.encoder_milliseconds, row.decoder_milliseconds) >= 0


def test_measure_table_main_object_counts_images_that_have_one(table: Table) -> None:
    assert table.models["nic"].scores["drawn test"][MAIN_OBJECT].images == 21


def test_measure_table_echoes_are_on_the_page_beside_those_of_people(table: Table) -> None:
    text = page(Results(table=table)).partition("## Echoes")[2].partition("\n## ")[0]
    assert "| people | 0.0 | 0.0 |" in text
    for name, row in table.models.items():
        shares = [row.value(each, ECHOES) for each in table.sets]
        assert f"| `{name}` | " + " | ".join(map(percent, shares)) + " |" in text


def test_measure_table_models_that_caption_alike_are_not_told_apart(table: Table) -> None:
    found = {(each.metric, each.first, each.second): each for each in table.differences}
    assert len(found) == 6
    for metric in ("CIDEr-D", "BLEU-4"):
        same = found[metric, "soft-attention", "nic"]
        assert (same.value, same.is_real, same.other_sign) == (0.0, False, 1.0)


def test_measure_table_twice_gives_the_same_numbers(
    measured: MeasuredTable,
    captioners: list[NetworkCaptioner],
    sets: dict[str, list[CaptionedImage]],
) -> None:
    again = measure_table(captioners, sets, [], "glimpse-train table")
    assert again.metrics == measured.metrics
    assert again.table.differences == measured.table.differences
    assert again.table.side_by_side == measured.table.side_by_side


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
    assert read_catalog().in_order(
        ["zebra", "transformer", "soft-attention", "glimpse", "base", "apple", "nic"]
    ) == [*("nic", "base", "soft-attention", "transformer", "glimpse", "apple", "zebra")]


# -- what is written ----


def differences(
    first: str, second: str, value: float, low: float, high: float
) -> tuple[Difference, ...]:
    return tuple(
        Difference(
            metric=metric,
            first=first,
            second=second,
            value=value,
            low=low,
            high=high,
            other_sign=0.04,
            is_real=low > 0 or high < 0,
        )
        for metric in ("CIDEr-D", "BLEU-4")
    )


def page_of_two(table: Table, found: tuple[Difference, ...]) -> str:
    """The page of the last two models, with differences that are made up."""
    models = {name: table.models[name] for name in NAMES[1:]}
    changed = table.model_copy(update={"models": models, "differences": found})
    return page(Results(table=changed))


@pytest.mark.parametrize(
    ("numbers", "claim"),
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
    table: Table, numbers: tuple[float, float, float], claim: str
) -> None:
    text = page_of_two(table, differences("hard-attention", "soft-attention", *numbers))
    assert f"* `hard-attention`: {claim}" in text
    assert ("really" in claim) == bool(re.search(r"\breally\b", text))


def test_page_difference_kept_the_other_way_is_turned_round(table: Table) -> None:
    found = differences("soft-attention", "hard-attention", 0.02, 0.005, 0.04)
    text = page_of_two(table, found)
    assert "* `hard-attention`: CIDEr-D really lower, -2.0 (-4.0 to -0.5)" in text


def test_page_tells_every_model_and_marks_what_is_published(table: Table) -> None:
    text = page(Results(table=table))
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
    alone = measure_table(captioners[:1], {"drawn test": sets["drawn test"][:3]}, [], "x")
    text = page(Results(table=alone.table))
    assert "differences" not in text
    assert "Side by side" not in text


def test_page_why_not_shipped_claims_what_was_measured(table: Table) -> None:
    def scored(value: float) -> ModelResult:
        score = MetricScore(value=value, low=0.0, high=1.0, images=42)
        scores = {name: {"CIDEr-D": score} for name in table.sets}
        return table.models["nic"].model_copy(update={"scores": scores})

    def reason(own: float) -> str:
        changed = table.model_copy(
            update={
                "models": {"nic": scored(own), "soft-attention": scored(0.5)},
                "not_shipped": ("nic",),
                "lineage": {"nic": Lineage(source=None, stages=(), encoder_share=0.0)},
            }
        )
        return why_not_shipped(changed, "nic")

    assert (
        "Its CIDEr-D is 30.0 below that of the lowest shipped model. Its encoder began with random "
        "weights" in reason(0.2)
    )
    assert "below" not in reason(0.6)


def test_page_section_is_a_function_of_the_results(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def more(results: Results) -> str:
        return f"## Limit {results.limit}" if results.limit is not None else ""

    monkeypatch.setattr(results_page, "SECTIONS", (*results_page.SECTIONS, more))
    assert page(Results(table=table, limit=3)).endswith("\n\n## Limit 3\n")
    assert page(Results()) == "# Results\n"
    assert not page(Results(table=table)).endswith("\n\n")


def test_markdown_table_bar_in_a_caption_stays_in_its_cell() -> None:
    assert markdown_table(["", "caption"], [["a", "left | right"]]).endswith(
        "| a | left \\| right |"
    )


def test_write_results_readme_changes_between_its_marks_alone(table: Table, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    output = tmp_path / "docs" / "results.md"
    results = Results(table=table)
    readme.write_text(
        "before\n<!-- begin table -->\nold\n<!-- end table -->\nafter\n", encoding="utf-8"
    )
    assert write_results(results, output, readme) == [output, output.with_suffix(".json"), readme]
    assert output.read_text(encoding="utf-8") == page(results)
    document = output.with_suffix(".json").read_text(encoding="utf-8")
    assert Results.model_validate_json(document) == results
    expected = f"before\n<!-- begin table -->\n{short_form(table)}\n<!-- end table -->\nafter\n"
    assert readme.read_text(encoding="utf-8") == expected
    write_results(results, output, readme)
    assert readme.read_text(encoding="utf-8") == expected


def test_write_results_readme_without_marks_or_absent_is_left_alone(
    table: Table, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no marks\n", encoding="utf-8")
    for given in (readme, tmp_path / "absent.md", None):
        assert len(write_results(Results(table=table), tmp_path / "results.md", given)) == 2
    assert readme.read_text(encoding="utf-8") == "no marks\n"
