"""Two commands share one results document: each replaces its part; other weights are dropped."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from evaluation.map_results import MapsResult
from evaluation.merging import merge_results
from evaluation.report.catalog import read_catalog
from evaluation.results import ModelResult, Results, Table
from models.bundles.registry import describe_model
from tests.unit.toys import save_tiny_bundle
from tests.unit.workspaces import MODELS, maps_place
from training.data.layouts import DataError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return maps_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def published(repository: Path) -> Results:
    """The project's own results, of whose rows the tests make others."""
    text = (repository / "docs" / "results.json").read_text(encoding="utf-8")
    return Results.model_validate_json(text)


def maps_rows(published: Results, digests: Mapping[str, str]) -> dict[str, MapsResult]:
    row = published.maps["glimpse"]
    return {name: row.model_copy(update={"digest": each}) for name, each in digests.items()}


def table_of(published: Results, digests: Mapping[str, str], date: str = "then") -> Table:
    assert published.table is not None
    row = published.table.models["glimpse"]
    models: dict[str, ModelResult] = {
        name: row.model_copy(update={"digest": each}) for name, each in digests.items()
    }
    return published.table.model_copy(
        update={"date": date, "models": models, "not_shipped": (), "lineage": {}}
    )


def digests_in(weights: Path) -> dict[str, str]:
    return {name: describe_model(weights, name).digest for name in MODELS}


def merge(
    document: Path,
    weights: Path,
    *,
    table: Table | None = None,
    maps: Mapping[str, MapsResult] | None = None,
) -> tuple[Results, list[str]]:
    return merge_results(document, weights, read_catalog().in_order, table=table, maps=maps)


def written(document: Path, results: Results) -> Path:
    document.write_text(results.dump(), encoding="utf-8")
    return document


def test_merge_results_each_command_replaces_its_own_part_alone(
    place: Path, tmp_path: Path, published: Results
) -> None:
    weights = place / "weights"
    digests = digests_in(weights)
    nic = {"nic": digests["nic"]}
    soft = {"soft-attention": digests["soft-attention"]}
    soft_maps = maps_rows(published, soft)
    document = tmp_path / "results.json"
    assert merge(document, weights, maps=soft_maps) == (Results(maps=soft_maps), [])
    before = Results(table=table_of(published, nic), maps=soft_maps)
    written(document, before)
    table = table_of(published, soft, date="now")
    assert merge(document, weights, table=table) == (Results(table=table, maps=soft_maps), [])
    more = maps_rows(published, {"transformer": digests["transformer"], **nic})
    results, remarks = merge(document, weights, maps=more)
    assert (results.table, remarks) == (before.table, [])
    assert list(results.maps) == ["nic", "soft-attention", "transformer"]


def test_merge_results_rows_of_other_weights_are_dropped_and_named(
    copy: Path, published: Results
) -> None:
    weights = copy / "weights"
    digests = digests_in(weights)
    before = Results(table=table_of(published, digests), maps=maps_rows(published, digests))
    document = written(copy / "results.json", before)
    shutil.rmtree(weights / "nic")
    (weights / "transformer" / "config.json").write_bytes(b"damaged")
    save_tiny_bundle(weights / "hard-attention", attention="cosine")
    results, remarks = merge(document, weights, maps={})
    assert list(results.maps) == ["soft-attention"]
    assert results.table == before.table
    for name in ("nic", "transformer", "hard-attention"):
        assert f"dropped the maps of {name}: they were measured on other weights" in remarks
        assert (
            f"the table's row of {name} was measured on other weights: run glimpse-train table "
            "again" in remarks
        )
    assert len(remarks) == 6


def test_merge_results_last_row_dropped_leaves_no_section(
    tmp_path: Path, published: Results
) -> None:
    before = Results(maps=maps_rows(published, {"gone": "0"}))
    document = written(tmp_path / "results.json", before)
    results, remarks = merge(document, tmp_path, maps={})
    assert results == Results()
    assert results.dump() == "{}\n"
    assert len(remarks) == 1


def test_merge_results_of_an_older_form_are_dropped_and_named(
    place: Path, tmp_path: Path, published: Results
) -> None:
    """Rows that do not name their weights, of a model that is there and of one that is not."""
    rows: dict[str, dict[str, str]] = {"nic": {}, "gone": {}}
    document = tmp_path / "results.json"
    older = {"date": "then", "models": rows, "maps": rows}
    document.write_text(json.dumps(older), encoding="utf-8")
    results, remarks = merge(document, place / "weights", maps={})
    assert results == Results()
    assert f"dropped the table of {document}, which is of an older form" in remarks
    assert len([remark for remark in remarks if remark.startswith("dropped the maps of")]) == 2
    table = table_of(published, {"nic": digests_in(place / "weights")["nic"]})
    results, remarks = merge(document, place / "weights", table=table)
    assert results == Results(table=table)
    assert len(remarks) == 2


def test_merge_results_row_of_a_model_that_is_not_shipped_is_no_matter(
    place: Path, tmp_path: Path, published: Results
) -> None:
    table = table_of(published, {"elsewhere": "0"})
    table = table.model_copy(update={"not_shipped": ("elsewhere",)})
    merged = merge(tmp_path / "results.json", place / "weights", table=table)
    assert merged == (Results(table=table), [])


@pytest.mark.parametrize("content", ["{", "[]"])
def test_merge_results_document_of_another_kind_is_a_data_error(
    content: str, tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"results\.json"):
        merge(tmp_path / "results.json", tmp_path, maps={})
