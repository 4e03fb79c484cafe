"""The maps of several models: measured as each alone, told beside the table, dropped when they
are of old weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.measures.deletion import measure_deletion
from evaluation.measures.grounding import measure_correctness, measure_pointing
from evaluation.report.results_page import page
from evaluation.report.sections.maps import maps_section
from evaluation.results import (
    MapData,
    MapMeasures,
    has_soft_maps,
    measure_maps,
    merge_results,
    read_map_data,
)
from models.bundles.registry import describe_model
from models.errors import ConfigError
from models.loading import load_captioner
from models.runtime.torch import TorchRuntime
from tests.unit.toys import save_tiny_bundle
from tests.unit.workspaces import MAPS_EXPERIMENT, MODELS, WITH_MAPS, maps_place
from training.config import load_config
from training.data.datasets import CaptionedImage, read_dataset
from training.data.layouts import DataError

pytestmark = pytest.mark.usefixtures("without_java")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return maps_place(tmp_path_factory.mktemp("place"))


def read_data(place: Path, limit: int | None = None) -> MapData:
    config = load_config(place / "drawn.toml", place / "data")
    photos = read_dataset(config.test[0])[0]
    return read_map_data(
        config, {"the test": photos}, {"the dev": photos}, place / "data" / "boxes", limit
    )


@pytest.fixture(scope="module")
def data(place: Path) -> MapData:
    return read_data(place)


@pytest.fixture(scope="module")
def measured(place: Path, data: MapData) -> MapMeasures:
    captioners = [
        load_captioner(place / "weights", name, precision="float32") for name in WITH_MAPS
    ]
    return measure_maps(captioners, data, "glimpse-train maps")


# -- what is measured ----


def test_has_maps_those_that_see_one_vector_have_none(place: Path) -> None:
    names = [name for name in MODELS if has_soft_maps(load_captioner(place / "weights", name).info)]
    assert names == WITH_MAPS


def test_read_map_data_limit_leaves_the_first_photos_of_each_set(
    place: Path, data: MapData
) -> None:
    assert data.names == {"correctness": "the test", "pointing": "boxes", "deletion": "the dev"}
    few = read_data(place, 2)
    assert (few.test, few.boxed, few.dev) == (data.test[:2], data.boxed[:2], data.dev[:2])
    assert all(photo.path is not None and photo.path.is_file() for photo in data.boxed)


def test_read_map_data_photos_of_a_training_set_are_left_out_and_counted(copy: Path) -> None:
    images = copy / "data" / "shapes" / "images"
    line = {"file": "images/7.png", "captions": ["A red dog."]}
    shutil.copy(copy / "data" / "boxes" / "images" / "7.png", images / "7.png")
    with (copy / "data" / "shapes" / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    data = read_data(copy)
    assert data.left_out == 1
    assert [photo.key for photo in data.boxed] == [
        f"{number}.png" for number in range(12) if number != 7
    ]
    captioner = load_captioner(copy / "weights", "soft-attention")
    row = measure_maps([captioner], data, "x").rows["soft-attention"]
    assert row["pointing"]["left_out"] == 1
    assert "because they are in a training set: 1." in maps_section(
        {"maps": {"soft-attention": row}}
    )


def test_read_map_data_without_entities_says_so(copy: Path) -> None:
    experiment = copy / "drawn.toml"
    experiment.write_text(
        MAPS_EXPERIMENT.replace('entities = "entities.jsonl"', ""), encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="names the entities of"):
        read_data(copy)


def test_photos_of_the_pointing_measure_are_named_by_their_files(data: MapData) -> None:
    assert {photo.key for photo in data.boxed} == set(data.objects)
    assert all(isinstance(photo, CaptionedImage) and not photo.captions for photo in data.boxed)


def test_command_photo_without_entities_is_named(copy: Path) -> None:
    lines = (
        (copy / "data" / "shapes" / "entities.jsonl")
        .read_text(encoding="utf-8")
        .splitlines(keepends=True)
    )
    (copy / "data" / "shapes" / "entities.jsonl").write_text("".join(lines[1:]), encoding="utf-8")
    data = read_data(copy)
    captioner = load_captioner(copy / "weights", "soft-attention")
    with pytest.raises(DataError, match="is not among the grounded captions"):
        measure_maps([captioner], data, "x")


def test_measure_maps_together_equals_each_alone(
    place: Path, data: MapData, measured: MapMeasures
) -> None:
    """What is remembered of a photo is half precision."""
    assert list(measured.rows) == WITH_MAPS
    for name in WITH_MAPS:
        captioner = load_captioner(place / "weights", name, precision="float32")
        row = measured.rows[name]
        alone = measure_correctness(captioner, data.test, data.grounding)
        assert len(alone.looks) == row["correctness"]["looks"] == 12
        for one, other in zip(alone.looks, measured.correctness[name].looks, strict=True):
            assert one.mass == pytest.approx(other.mass, abs=0.02)
        pointing = measure_pointing(captioner, data.boxed, data.objects).describe()
        assert row["pointing"]["model"]["mass"]["value"] == pytest.approx(
            pointing["model"]["mass"]["value"], abs=0.02
        )
        assert row["deletion"] == {
            "set": "the dev",
            **measure_deletion(captioner, data.dev).describe(),
        }
        assert row["digest"] == captioner.info.digest


def test_measure_maps_models_with_one_encoder_encode_each_photo_once(
    place: Path, data: MapData, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = TorchRuntime.encode

    def counted(self: TorchRuntime, pixels: torch.Tensor) -> torch.Tensor:
        encoded.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(TorchRuntime, "encode", counted)
    monkeypatch.setattr("evaluation.results.measure_deletion", lambda *_, **__: _Nothing())
    advanced: list[int] = []
    captioners = [
        load_captioner(place / "weights", name, precision="float32") for name in WITH_MAPS
    ]
    measure_maps(captioners, data, "x", advanced.append)
    assert sum(encoded) == 6 + 12
    assert sum(advanced) == 3 * (6 + 12)


class _Nothing:
    """A measure that has nothing to say."""

    def describe(self) -> dict[str, Any]:
        return {}


# -- what is told ----


def test_maps_section_has_a_row_a_measure_and_model_and_says_what_is_special(
    measured: MapMeasures,
) -> None:
    text = maps_section({"maps": measured.rows})
    for name in WITH_MAPS:
        assert text.count(f"\n| `{name}` |") == 3
    row = measured.rows["transformer"]["correctness"]["model"]["mass"]
    cell = (
        f"{100 * row['value']:.1f}<br><sub>{100 * row['low']:.1f} to {100 * row['high']:.1f}</sub>"
    )
    assert f"| `transformer` | {cell} |" in text
    assert "A map of `hard-attention` is one cell" in text
    assert (
        "A map of `transformer` is the cross-attention of the last layer, averaged over heads."
        in text
    )
    assert "cannot be held against theirs" in text
    assert "20 of 196 cells are grayed out" in text
    assert "every 10th was taken, from the first on; of a caption at most 3 content words" in text
    assert "because they are in a training set: 0." in text
    exact, cells = (
        measured.rows["transformer"]["correctness"]["gaussian"][name]
        for name in ("peak", "cells_peak")
    )
    inside = (
        f"{100 * exact['value']:.1f} % of looks, and the centres of the cells around it would be in"
    )
    assert f"{inside} {100 * cells['value']:.1f} %" in text


def test_maps_section_of_soft_attention_alone_says_nothing_of_the_others(
    measured: MapMeasures,
) -> None:
    text = maps_section({"maps": {"soft-attention": measured.rows["soft-attention"]}})
    for word in ("hard", "heads", "taught"):
        assert word not in text
    taught = maps_section({"maps": {"glimpse": measured.rows["soft-attention"]}})
    assert "`glimpse` was taught where to look" in taught


def test_page_of_maps_without_a_table_is_a_page(measured: MapMeasures) -> None:
    text = page({"maps": measured.rows})
    assert text.startswith(
        "# Results\n\n## Where the models look\n\nMade by `glimpse-train maps` on 20"
    )


# -- what is kept ----


def written(document: Path, results: dict[str, Any]) -> Path:
    document.write_text(json.dumps(results), encoding="utf-8")
    return document


def test_merge_results_each_command_replaces_its_own_part_alone(
    place: Path, tmp_path: Path
) -> None:
    rows = {name: {"digest": describe_model(place / "weights", name).digest} for name in MODELS}
    nic, soft = ({name: rows[name]} for name in ("nic", "soft-attention"))
    document = tmp_path / "results.json"
    weights = place / "weights"
    assert merge_results(document, weights, maps=soft) == ({"maps": soft}, [])
    written(document, {"date": "then", "models": nic, "maps": soft})
    table = {"date": "now", "models": soft}
    assert merge_results(document, weights, table=table) == ({**table, "maps": soft}, [])
    more = {"transformer": rows["transformer"], "nic": rows["nic"]}
    results, remarks = merge_results(document, weights, maps=more)
    assert (results["date"], results["models"], remarks) == ("then", nic, [])
    assert list(results["maps"]) == ["nic", "soft-attention", "transformer"]


def test_merge_results_rows_of_other_weights_are_dropped_and_named(copy: Path) -> None:
    weights = copy / "weights"
    rows = {name: {"digest": describe_model(weights, name).digest} for name in MODELS}
    document = written(copy / "results.json", {"models": rows, "maps": rows})
    shutil.rmtree(weights / "nic")
    (weights / "transformer" / "config.json").write_bytes(b"damaged")
    save_tiny_bundle(weights / "hard-attention", attention="cosine")
    results, remarks = merge_results(document, weights, maps={})
    assert list(results["maps"]) == ["soft-attention"]
    assert results["models"] == rows
    for name in ("nic", "transformer", "hard-attention"):
        assert f"dropped the maps of {name}: they were measured on other weights" in remarks
        assert (
            f"the table's row of {name} was measured on other weights: run glimpse-train table "
            "again" in remarks
        )
    assert len(remarks) == 6


def test_merge_results_last_row_dropped_leaves_no_section(tmp_path: Path) -> None:
    document = written(tmp_path / "results.json", {"maps": {"gone": {"digest": "0"}}})
    results, remarks = merge_results(document, tmp_path, maps={})
    assert results == {}
    assert len(remarks) == 1


def test_merge_results_of_an_older_form_are_dropped_and_named(place: Path, tmp_path: Path) -> None:
    """Rows that do not name their weights, of a model that is there and of one that is not."""
    rows: dict[str, Any] = {"nic": {}, "gone": {}}
    document = written(tmp_path / "results.json", {"date": "then", "models": rows, "maps": rows})
    results, remarks = merge_results(document, place / "weights", maps={})
    assert results == {}
    assert f"dropped the table of {document}, which is of an older form" in remarks
    assert len([remark for remark in remarks if remark.startswith("dropped the maps of")]) == 2
    table = {"models": {"nic": {"digest": describe_model(place / "weights", "nic").digest}}}
    results, remarks = merge_results(document, place / "weights", table=table)
    assert results == table
    assert len(remarks) == 2


def test_merge_results_row_of_a_model_that_is_not_shipped_is_no_matter(
    place: Path, tmp_path: Path
) -> None:
    table = {"models": {"elsewhere": {"digest": "0"}}, "not_shipped": ["elsewhere"]}
    assert merge_results(tmp_path / "results.json", place / "weights", table=table) == (table, [])


@pytest.mark.parametrize("content", ["{", "[]"])
def test_merge_results_document_of_another_kind_is_a_data_error(
    content: str, tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"results\.json"):
        merge_results(tmp_path / "results.json", tmp_path, maps={})
