"""`glimpse-train maps` and the table, in either order: each writes its own part, and a quick look
writes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evaluation.report.results_page import page
from evaluation.results import Results
from models.loading import load_captioner
from tests.unit.workspaces import MODELS, WITH_MAPS, contents, maps_place
from training.cli import app

pytestmark = pytest.mark.usefixtures("without_java")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return maps_place(tmp_path_factory.mktemp("place"))


def run(place: Path, command: str, *options: str) -> tuple[str, str]:
    folders = [
        text for name in ("data", "weights") for text in (f"--{name}-folder", str(place / name))
    ]
    files = ["--output", str(place / "docs" / "results.md")]
    files += (
        ["--readme", str(place / "README.md"), "--without-meteor"] if command == "table" else []
    )
    arguments = [command, "--experiment", str(place / "drawn.toml"), *folders, *files, *options]
    answer = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert answer.exit_code == 0
    return answer.stdout, answer.stderr


def results_of(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (place / "docs" / "results.json").read_text(encoding="utf-8")
    )
    return found


def test_command_with_a_limit_prints_and_writes_nothing(place: Path) -> None:
    before = contents(place)
    text, _ = run(place, "maps", "--limit", "11", "--models", "transformer")
    assert "**A quick look at the first 11 photos of each set.**" in text
    assert text.count("| `transformer` |") == 3
    assert contents(place) == before


def test_commands_in_either_order_leave_the_results_of_both(copy: Path) -> None:
    run(copy, "maps")
    maps = results_of(copy)["maps"]
    assert list(maps) == WITH_MAPS  # nic has none of its own
    text = (copy / "docs" / "results.md").read_text(encoding="utf-8")
    assert "## Where the models look" in text
    assert "## Side by side" not in text
    run(copy, "table")
    both = results_of(copy)
    assert both["maps"] == maps
    assert list(both["models"]) == list(MODELS)
    run(copy, "maps", "--models", "transformer")
    assert results_of(copy)["models"] == both["models"]
    assert list(results_of(copy)["maps"]) == WITH_MAPS
    text = (copy / "docs" / "results.md").read_text(encoding="utf-8")
    assert text == page(Results.model_validate(results_of(copy)))
    assert "## Where the models look" in text
    assert "## How it was measured" in text
    for name in WITH_MAPS:
        metrics = load_captioner(copy / "weights", name).info.metrics
        assert metrics.keys() == {"cider_d", "maps", "sets", "decoding", "precision", "tokeniser"}
        assert metrics["maps"] == results_of(copy)["maps"][name]


def test_command_writes_the_page_of_the_models_it_is_asked_for(copy: Path, tmp_path: Path) -> None:
    run(
        copy,
        "maps",
        "--models",
        "soft-attention,transformer",
        "--with-photos",
        str(tmp_path / "photos"),
    )
    text = (copy / "docs" / "maps.md").read_text(encoding="utf-8")
    assert text.startswith("# Maps\n\nWhere `soft-attention` looks")  # no bundle is called glimpse
    before = contents(copy / "docs")
    assert "images/maps-worst.jpg" in before
    assert (tmp_path / "photos" / "maps.md").is_file()
    assert (tmp_path / "photos" / "images" / "maps-worst.jpg").read_bytes() != before[
        "images/maps-worst.jpg"
    ]
    options = ("--models", " transformer", "--page-models", "soft-attention, transformer")
    _, remarks = run(copy, "maps", *options)
    assert (
        "maps.md is left as it is: it shows soft-attention, which was not measured now" in remarks
    )
    _, remarks = run(copy, "maps", *options, "--no-page")
    assert "maps.md" not in remarks
    after = contents(copy / "docs")
    assert {name for name in after if after[name] != before.get(name)} == {
        "results.md",
        "results.json",
    }
