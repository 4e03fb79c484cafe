"""The table says what was measured, claims no more than its numbers do, and leaves alone what is not its own."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from models.captioner import TorchCaptioner, load_captioner
from models.config import DecodingOptions
from models.errors import ConfigError
from models.registry import list_models
from tests.unit.toys import save_tiny_bundle
from training import results_page
from training.cli import app
from training.data import Photo
from training.evaluation import caption_photos
from training.main_object import MAIN_OBJECT
from training.markdown import markdown_table
from training.metrics import score_captions
from training.options import read_names
from training.results_page import page, short_form, write_results
from training.synthetic import write
from training.table import Table, in_order, measure_table, side_by_side_positions

NAMES = ("nic", "soft-attention", "hard-attention")
EXPERIMENT = """
name = "nic"
[[train]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "train"
[[dev]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "dev"
[[test]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "train"
[[stages]]
kind = "frozen"
epochs = 1
"""


@pytest.fixture(scope="module", autouse=True)
def without_java() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment, its drawn pictures in data/, three bundles in weights/; the first two caption alike."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "nic.toml").write_text(EXPERIMENT, encoding="utf-8")
    write(folder / "data" / "shapes", train_count=42, dev_count=5, seed=0, size_pixels=64)
    for name in NAMES:
        longest = 3 if name == "hard-attention" else 8
        save_tiny_bundle(folder / "weights" / name, decoding=DecodingOptions(beam_size=2, max_length=longest))
    return folder


@pytest.fixture(scope="module")
def captioners(place: Path) -> list[TorchCaptioner]:
    return [load_captioner(place / "weights", name) for name in NAMES]


@pytest.fixture(scope="module")
def sets(place: Path) -> dict[str, list[Photo]]:
    """Every second photo shows a dog, if its references are to be believed."""
    files = sorted((place / "data" / "shapes" / "images").iterdir())
    dogs = ("A dog runs.", "The dog sits on grass.")
    captions = [dogs if number % 2 else ("A red cat.", "On the grass.") for number in range(len(files))]
    photos = [Photo(file.name, file, texts) for file, texts in zip(files, captions, strict=True)]
    return {"drawn test": photos[:42], "drawn dev": photos[42:]}


@pytest.fixture(scope="module")
def table(captioners: list[TorchCaptioner], sets: dict[str, list[Photo]]) -> Table:
    path = sets["drawn test"][0].path
    assert path is not None
    return measure_table(captioners, sets, [path], "glimpse-train table", lambda _: None)


# -- what is measured -----------------------------------------------------------------------------------------------


def test_measure_table_scores_are_those_of_what_is_served(
    table: Table, captioners: list[TorchCaptioner], sets: dict[str, list[Photo]]
) -> None:
    for captioner in captioners:
        row = table.results["models"][captioner.info.name]
        for name, photos in sets.items():
            served = caption_photos(captioner, photos, captioner.info.config.decoding, lambda _: None)
            expected = score_captions([photo.captions for photo in photos], served, with_meteor=False)
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
    found = {(each["metric"], each["first"], each["second"]): each for each in table.results["differences"]}
    assert len(found) == 6
    for metric in ("CIDEr-D", "BLEU-4"):
        same = found[metric, "soft-attention", "nic"]
        assert (same["value"], same["is_real"], same["other_sign"]) == (0.0, False, 1.0)


def test_measure_table_twice_gives_the_same_numbers(
    table: Table, captioners: list[TorchCaptioner], sets: dict[str, list[Photo]]
) -> None:
    again = measure_table(captioners, sets, [], "glimpse-train table", lambda _: None)
    assert again.metrics == table.metrics
    assert again.results["differences"] == table.results["differences"]
    assert again.results["side_by_side"] == table.results["side_by_side"]


def test_side_by_side_positions_follow_the_written_rule() -> None:
    assert side_by_side_positions(1000) == [40, 123, 206, 289, 372, 455, 538, 621, 704, 787, 870, 953]
    assert side_by_side_positions(41) == [40]
    assert side_by_side_positions(39) == []


def test_in_order_goes_from_the_first_of_the_line_to_the_newcomers() -> None:
    assert in_order(["zebra", "transformer", "soft-attention", "glimpse", "base", "apple", "nic"]) == [
        *("nic", "base", "soft-attention", "transformer", "glimpse", "apple", "zebra")
    ]


# -- what is written ------------------------------------------------------------------------------------------------


def difference(first: str, second: str, value: float, low: float, high: float) -> list[dict[str, Any]]:
    told = {"first": first, "second": second, "value": value, "low": low, "high": high, "other_sign": 0.04}
    return [{"metric": metric, **told, "is_real": low > 0 or high < 0} for metric in ("CIDEr-D", "BLEU-4")]


def with_difference(table: Table, *measured: float) -> str:
    """The page of the last two models, with a difference of hard from soft attention that is made up."""
    models = {name: table.results["models"][name] for name in NAMES[1:]}
    return page({**table.results, "models": models, "differences": difference(*NAMES[:0:-1], *measured)})


@pytest.mark.parametrize(
    ("measured", "claim"),
    [
        ((0.02, 0.005, 0.04), "CIDEr-D really higher, +2.0 (+0.5 to +4.0)"),
        ((-0.02, -0.04, -0.005), "CIDEr-D really lower, -2.0 (-4.0 to -0.5)"),
        ((0.02, -0.001, 0.04), "CIDEr-D not told apart, +2.0 (-0.1 to +4.0), 4 % of resamples against it"),
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
    captioners: list[TorchCaptioner], sets: dict[str, list[Photo]]
) -> None:
    alone = measure_table(captioners[:1], {"drawn test": sets["drawn test"][:3]}, [], "x", lambda _: None)
    text = page(alone.results)
    assert "differences" not in text
    assert "Side by side" not in text


def test_page_section_is_a_function_of_the_results(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    added = (*results_page.SECTIONS, ("more", lambda results: results["more"]))
    monkeypatch.setattr(results_page, "SECTIONS", added)
    assert page({**table.results, "more": "## More"}).endswith("\n\n## More\n")
    assert page({"more": "## More"}) == "# Results\n\n## More\n"
    assert not page(table.results).endswith("\n\n")


def test_markdown_table_bar_in_a_caption_stays_in_its_cell() -> None:
    assert markdown_table(["", "caption"], [["a", "left | right"]]).endswith("| a | left \\| right |")


def test_write_results_readme_changes_between_its_marks_alone(table: Table, tmp_path: Path) -> None:
    readme, output = tmp_path / "README.md", tmp_path / "docs" / "results.md"
    readme.write_text("before\n<!-- begin table -->\nold\n<!-- end table -->\nafter\n", encoding="utf-8")
    assert write_results(table.results, output, readme) == [output, output.with_suffix(".json"), readme]
    assert output.read_text(encoding="utf-8") == page(table.results)
    assert json.loads(output.with_suffix(".json").read_text(encoding="utf-8")) == table.results
    expected = f"before\n<!-- begin table -->\n{short_form(table.results)}\n<!-- end table -->\nafter\n"
    assert readme.read_text(encoding="utf-8") == expected
    write_results(table.results, output, readme)
    assert readme.read_text(encoding="utf-8") == expected


def test_write_results_readme_without_marks_or_absent_is_left_alone(table: Table, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no marks\n", encoding="utf-8")
    for given in (readme, tmp_path / "absent.md", None):
        assert len(write_results(table.results, tmp_path / "results.md", given)) == 2
    assert readme.read_text(encoding="utf-8") == "no marks\n"


# -- the command ----------------------------------------------------------------------------------------------------


def invoke(place: Path, *options: str) -> Result:
    folders = [text for name in ("data", "weights") for text in (f"--{name}-folder", str(place / name))]
    arguments = ["table", "--experiment", str(place / "nic.toml"), *folders, *options]
    return CliRunner().invoke(app, arguments)


def run(place: Path, *options: str) -> str:
    files = ["--output", str(place / "docs" / "results.md"), "--readme", str(place / "README.md")]
    answer = invoke(place, *files, "--without-meteor", *options)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_command_with_a_limit_prints_and_writes_nothing(place: Path) -> None:
    before = contents(place)
    told = run(place, "--limit", "4", "--models", "nic,hard-attention")
    assert "**A quick look at the first 4 photos of each set.**" in told
    assert "| `hard-attention` |" in told
    assert "| `soft-attention` |" not in told
    assert contents(place) == before


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """The same, to be written to."""
    return shutil.copytree(place, tmp_path / "copy")


def test_command_with_models_prints_and_writes_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where the published page lies: a part of the models is not to replace it."""
    (copy / "docs").mkdir()
    for name in ("README.md", "docs/results.md", "docs/results.json"):
        (copy / name).write_text("<!-- begin table -->\npublished\n<!-- end table -->\n", encoding="utf-8")
    monkeypatch.chdir(copy)
    before = contents(copy)
    answer = invoke(copy, "--models", " nic, hard-attention")
    assert answer.exit_code == 0
    assert "| `hard-attention` |" in answer.stdout
    refused = invoke(copy, "--models", "nic", "--output", str(copy / "docs" / "results.md"))
    assert isinstance(refused.exception, ConfigError)
    assert contents(copy) == before


def test_command_with_models_and_an_output_of_its_own_leaves_the_readme_alone(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "README.md").write_text("<!-- begin table -->\npublished\n<!-- end table -->\n", encoding="utf-8")
    monkeypatch.chdir(copy)
    before = contents(copy)
    assert invoke(copy, "--models", "nic", "--output", "part.md", "--without-meteor").exit_code == 0
    after = contents(copy)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"part.md", "part.json", "weights/nic/metrics.json", "weights/nic/SHA256SUMS"}


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ("nic,nic", "names 'nic' twice"),
        ("nic,nick", "No bundle is called 'nick', which --models names. There are: hard-attention, nic,"),
        (" , ", "names no bundle"),
    ],
)
def test_read_names_mistake_is_one_sentence(place: Path, models: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        read_names(models, list_models(place / "weights"))


def test_command_without_java_is_refused_and_writes_nothing(place: Path) -> None:
    before = contents(place)
    answer = invoke(place, "--output", str(place / "docs" / "results.md"))
    assert isinstance(answer.exception, ConfigError)
    assert "give --without-meteor to leave it out" in str(answer.exception)
    assert contents(place) == before


def test_command_also_rows_are_marked_and_left_out_of_the_readme(copy: Path) -> None:
    save_tiny_bundle(copy / "others" / "vit-transformer", decoding=DecodingOptions(beam_size=1, max_length=4))
    (copy / "README.md").write_text("<!-- begin table -->\n<!-- end table -->\n", encoding="utf-8")
    before = contents(copy)
    run(copy, "--also", str(copy / "others"))
    after = contents(copy)
    changed = {name for name in after if after[name] != before.get(name) and name.startswith("others")}
    assert changed == {f"others/vit-transformer/{name}" for name in ("metrics.json", "SHA256SUMS")}
    text = after["docs/results.md"].decode()
    assert "| `vit-transformer` (not shipped) |" in text
    assert "`vit-transformer` is not shipped." in text
    assert "`nic` (not shipped)" not in text
    assert b"vit-transformer" not in after["README.md"]
    assert b"`nic`" in after["README.md"]
    assert list(json.loads(after["docs/results.json"])["models"]) == [*NAMES, "vit-transformer"]


def test_command_also_with_a_name_that_is_shipped_is_refused(copy: Path) -> None:
    save_tiny_bundle(copy / "others" / "nic")
    answer = invoke(copy, "--also", str(copy / "others"), "--limit", "2")
    assert isinstance(answer.exception, ConfigError)
    assert "nic is both in" in str(answer.exception)


def test_page_why_not_shipped_claims_what_was_measured(table: Table) -> None:
    def score(value: float) -> dict[str, Any]:
        return {**models["nic"], "scores": {name: {"CIDEr-D": {**low, "value": value}} for name in sets}}

    models, sets = table.results["models"], table.results["sets"]
    low = {"low": 0.0, "high": 1.0, "photos": 42}
    results = {**table.results, "not_shipped": ["nic"], "origins": {"nic": {"encoder_begun": 0.0}}}
    shown = results_page._why_not_shipped(
        {**results, "models": {"nic": score(0.2), "soft-attention": score(0.5)}}, "nic"
    )
    assert "Its CIDEr-D is 30.0 below that of the lowest shipped model. Its encoder began with random weights" in shown
    better = results_page._why_not_shipped(
        {**results, "models": {"nic": score(0.6), "soft-attention": score(0.5)}}, "nic"
    )
    assert "below" not in better


def test_command_writes_page_document_and_metrics_and_keeps_what_is_not_its_own(copy: Path) -> None:
    before = contents(copy)
    run(copy)
    after = contents(copy)
    changed = {name for name in after if after[name] != before.get(name)}
    files = {f"weights/{name}/{file}" for name in NAMES for file in ("metrics.json", "SHA256SUMS")}
    assert changed == {"docs/results.md", "docs/results.json", *files}
    for name in NAMES:
        metrics = load_captioner(copy / "weights", name).info.metrics
        assert metrics["cider_d"] == 0.5  # what the bundle had
        assert metrics["sets"]["shapes train"]["photos"] == 42
