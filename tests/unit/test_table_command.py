"""`glimpse-train table` writes what it measured, and nothing where it was asked for a part or
refused."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from evaluation.jobs.bundles import read_names
from models.bundles.registry import list_models
from models.config import DecodingOptions
from models.errors import ConfigError
from models.loading import load_captioner
from tests.unit.toys import save_tiny_bundle
from tests.unit.workspaces import NAMES, contents, table_place
from training.cli import app

pytestmark = pytest.mark.usefixtures("without_java")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table_place(tmp_path_factory.mktemp("place"))


def invoke(place: Path, *options: str) -> Result:
    folders = [
        text for name in ("data", "weights") for text in (f"--{name}-folder", str(place / name))
    ]
    arguments = ["table", "--experiment", str(place / "nic.toml"), *folders, *options]
    return CliRunner().invoke(app, arguments)


def run(place: Path, *options: str) -> str:
    files = ["--output", str(place / "docs" / "results.md"), "--readme", str(place / "README.md")]
    answer = invoke(place, *files, "--without-meteor", *options)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def test_command_with_a_limit_prints_and_writes_nothing(place: Path) -> None:
    before = contents(place)
    text = run(place, "--limit", "4", "--models", "nic,hard-attention")
    assert "**A quick look at the first 4 photos of each set.**" in text
    assert "| `hard-attention` |" in text
    assert "| `soft-attention` |" not in text
    assert contents(place) == before


def test_command_with_models_prints_and_writes_nothing(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run where the published page lies: a part of the models is not to replace it."""
    (copy / "docs").mkdir()
    for name in ("README.md", "docs/results.md", "docs/results.json"):
        (copy / name).write_text(
            "<!-- begin table -->\npublished\n<!-- end table -->\n", encoding="utf-8"
        )
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
    (copy / "README.md").write_text(
        "<!-- begin table -->\npublished\n<!-- end table -->\n", encoding="utf-8"
    )
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
        (
            "nic,nick",
            "No bundle is called 'nick', which --models names. There are: hard-attention, nic,",
        ),
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
    save_tiny_bundle(
        copy / "others" / "vit-transformer", decoding=DecodingOptions(beam_size=1, max_length=4)
    )
    (copy / "README.md").write_text("<!-- begin table -->\n<!-- end table -->\n", encoding="utf-8")
    before = contents(copy)
    run(copy, "--also", str(copy / "others"))
    after = contents(copy)
    changed = {
        name for name in after if after[name] != before.get(name) and name.startswith("others")
    }
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
