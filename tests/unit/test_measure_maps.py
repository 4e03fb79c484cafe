"""The maps of several models: measured as each alone, reported beside the table."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluation.map_results import MapsResult
from evaluation.measures.deletion import Deletion, LogprobDrop, measure_deletion
from evaluation.measures.grounding import measure_correctness, measure_pointing
from evaluation.measures.maps import (
    MapData,
    MeasuredMaps,
    has_own_maps,
    measure_maps,
    read_map_data,
)
from evaluation.report.results_page import page
from evaluation.report.sections import maps
from evaluation.results import Results
from models.array_features import Features
from models.captioner import NetworkCaptioner
from models.errors import ConfigError
from models.loading import load_captioner
from models.preprocessing import PreparedImage
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
    images = read_dataset(config.test[0])[0]
    return read_map_data(
        config, {"the test": images}, {"the dev": images}, place / "data" / "boxes", limit
    )


@pytest.fixture(scope="module")
def data(place: Path) -> MapData:
    return read_data(place)


@pytest.fixture(scope="module")
def measured(place: Path, data: MapData) -> MeasuredMaps:
    captioners = [
        load_captioner(place / "weights", name, precision="float32") for name in WITH_MAPS
    ]
    return measure_maps(captioners, data, "glimpse-train maps")


# -- what is measured ----


def test_has_maps_those_that_see_one_vector_have_none(place: Path) -> None:
    names = [name for name in MODELS if has_own_maps(load_captioner(place / "weights", name).info)]
    assert names == WITH_MAPS


def test_read_map_data_limit_leaves_the_first_images_of_each_set(
    place: Path, data: MapData
) -> None:
    assert data.names == {"correctness": "the test", "pointing": "boxes", "deletion": "the dev"}
    few = read_data(place, 2)
    assert (few.test, few.boxed, few.dev) == (data.test[:2], data.boxed[:2], data.dev[:2])
    assert all(image.path is not None and image.path.is_file() for image in data.boxed)


def test_read_map_data_images_of_a_training_set_are_left_out_and_counted(copy: Path) -> None:
    images = copy / "data" / "shapes" / "images"
    line = {"file": "images/7.png", "captions": ["A red dog."]}
    shutil.copy(copy / "data" / "boxes" / "images" / "7.png", images / "7.png")
    with (copy / "data" / "shapes" / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    data = read_data(copy)
    assert data.left_out == 1
    assert [image.key for image in data.boxed] == [
        f"{number}.png" for number in range(12) if number != 7
    ]
    captioner = load_captioner(copy / "weights", "soft-attention")
    row = measure_maps([captioner], data, "x").rows["soft-attention"]
    assert row.pointing.left_out == 1
    assert "because they are in a training set: 1." in section({"soft-attention": row})


def test_read_map_data_without_entities_says_so(copy: Path) -> None:
    experiment = copy / "drawn.toml"
    experiment.write_text(
        MAPS_EXPERIMENT.replace('entities = "entities.jsonl"', ""), encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="names the entities of"):
        read_data(copy)


def test_images_of_the_pointing_measure_are_named_by_their_files(data: MapData) -> None:
    assert {image.key for image in data.boxed} == set(data.objects)
    assert all(isinstance(image, CaptionedImage) and not image.captions for image in data.boxed)


def test_command_image_without_entities_is_named(copy: Path) -> None:
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
    place: Path, data: MapData, measured: MeasuredMaps
) -> None:
    """Cached annotations are in half precision."""
    assert list(measured.rows) == WITH_MAPS
    for name in WITH_MAPS:
        captioner = load_captioner(place / "weights", name, precision="float32")
        row = measured.rows[name]
        alone = measure_correctness(captioner, data.test, data.grounding)
        assert len(alone.phrases) == row.correctness.phrases == 12
        for one, other in zip(alone.phrases, measured.correctness[name].phrases, strict=True):
            assert one.mass == pytest.approx(other.mass, abs=0.02)
        pointing = measure_pointing(captioner, data.boxed, data.objects).describe("boxes")
        assert row.pointing.model.mass.value == pytest.approx(pointing.model.mass.value, abs=0.02)
        assert row.deletion == measure_deletion(captioner, data.dev).describe("the dev")
        assert row.digest == captioner.info.digest


def test_measure_maps_models_with_one_encoder_encode_each_image_once(
    place: Path, data: MapData, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = NetworkCaptioner.encode

    def counted(self: NetworkCaptioner, images: Sequence[PreparedImage]) -> Features:
        encoded.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(NetworkCaptioner, "encode", counted)
    # In place of a measure that encodes images anew.
    nothing = Deletion(1, 20, 196, (LogprobDrop(0, "dog", -1.0, 1.0, 1.0, 1.0),))
    monkeypatch.setattr("evaluation.measures.maps.measure_deletion", lambda *_, **__: nothing)
    advanced: list[int] = []
    captioners = [
        load_captioner(place / "weights", name, precision="float32") for name in WITH_MAPS
    ]
    measure_maps(captioners, data, "x", advanced.append)
    assert sum(encoded) == 6 + 12
    assert sum(advanced) == 3 * (6 + 12)


# -- what is told ----


def section(rows: dict[str, MapsResult]) -> str:
    return maps.section(Results(maps=rows))


def test_section_has_a_row_a_measure_and_model_and_says_what_is_special(
    measured: MeasuredMaps,
) -> None:
    text = section(measured.rows)
    for name in WITH_MAPS:
        assert text.count(f"\n| `{name}` |") == 3
    mass = measured.rows["transformer"].correctness.model.mass
    assert mass.value is not None
    assert mass.low is not None
    assert mass.high is not None
    cell = f"{100 * mass.value:.1f}<br><sub>{100 * mass.low:.1f} to {100 * mass.high:.1f}</sub>"
    assert f"| `transformer` | {cell} |" in text
    assert "A map of `hard-attention` is one cell" in text
    assert (
        "A map of `transformer` is the cross-attention of the last layer, averaged over heads."
        in text
    )
    assert "cannot be compared with theirs" in text
    assert "20 of 196 cells are grayed out" in text
    assert "every 10th was taken, from the first on; of a caption at most 3 content words" in text
    assert "because they are in a training set: 0." in text
    gaussian = measured.rows["transformer"].correctness.gaussian
    assert gaussian.peak.value is not None
    assert gaussian.cells_peak.value is not None
    exact = f"{100 * gaussian.peak.value:.1f} % of phrases"
    inside = f"{exact}, and the centers of the cells around it would be in"
    assert f"{inside} {100 * gaussian.cells_peak.value:.1f} %" in text


def test_section_of_soft_attention_alone_says_nothing_of_the_others(
    measured: MeasuredMaps,
) -> None:
    text = section({"soft-attention": measured.rows["soft-attention"]})
    for word in ("hard", "heads", "taught"):
        assert word not in text
    taught = section({"glimpse": measured.rows["soft-attention"]})
    assert "`glimpse` was taught where to look" in taught


def test_page_of_maps_without_a_table_is_a_page(measured: MeasuredMaps) -> None:
    text = page(Results(maps=measured.rows))
    assert text.startswith(
        "# Results\n\n## Where the models look\n\nMade by `glimpse-train maps` on 20"
    )
