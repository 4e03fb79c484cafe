"""Model cards: every figure comes from the bundle, every model has its words, every verdict stands
by its caption."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from app.api.answers import MAPS
from app.core.settings import DEFAULT_MODEL
from evaluation.map_results import MapsResult
from evaluation.measures.calibration import calibrate
from evaluation.measures.usage import CaptionUsage
from evaluation.records import Estimate
from evaluation.report.card_examples import caption_examples
from evaluation.report.catalog import read_catalog
from evaluation.report.model_cards import describe_making, render_card
from evaluation.results import Results
from models.bundles.reading import update_metrics
from models.decoders.config import DECODER_KINDS, AttentionKind
from models.loading import describe_captioner, load_captioner
from tests.unit.toys import save_tiny_bundle

pytestmark = pytest.mark.docs

SCORES = {"photos": 1234, "references": 5678, "BLEU-4": 0.1111, "METEOR": 0.2222, "CIDEr-D": 0.7777}
METRICS: dict[str, Any] = {
    "sets": {"small dev": SCORES | {"photos": 4321}, "small test": SCORES},
    "decoding": {"beam_size": 7, "length_penalty": 0.25},
    "precision": "float32",
}


@pytest.fixture(scope="module")
def configs(repository: Path) -> Path:
    return repository / "training" / "configs"


def bundle(folder: Path, metrics: dict[str, Any], **fields: Any) -> Path:
    save_tiny_bundle(folder, **fields)
    update_metrics(folder, metrics)
    return folder


def card(configs: Path, folder: Path) -> str:
    return render_card(describe_captioner(folder.parent, folder.name), folder, configs)


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.01, high=value + 0.01)


def test_catalog_agrees_with_the_service() -> None:
    assert read_catalog().project.default_model == DEFAULT_MODEL
    assert read_catalog().maps == MAPS


def test_every_kind_of_model_and_every_trained_one_has_its_words(configs: Path) -> None:
    kinds = {*DECODER_KINDS, *get_args(AttentionKind)}
    catalog = read_catalog()
    assert set(catalog.decoders) == kinds - {"attention"}
    trained = {path.stem for path in configs.glob("*.toml")} - {"base", "shapes"}
    assert trained <= set(catalog.models)
    for name in trained:
        begin = f"`training/configs/{name}.toml`; begins "
        assert describe_making(name, configs).startswith(begin)
        assert catalog.models[name].limit in catalog.limits


def test_card_scores_are_those_of_metrics_the_test_set_first(configs: Path, tmp_path: Path) -> None:
    text = card(configs, bundle(tmp_path / "tiny", METRICS))
    table = text.partition("## Quality")[2]
    assert (
        "| small test | 1,234 | 11.1 | 22.2 | 77.8 |\n| small dev | 4,321 | 11.1 | 22.2 | 77.8 |"
        in table
    )
    assert "beam size 7, length penalty 0.25" in table


@pytest.mark.parametrize(
    "fields", [{"decoder": "nic"}, {"decoder": "transformer", "heads": 2}, {"attention": "hard"}]
)
def test_card_of_a_model_without_measures_shows_no_figures_of_them(
    configs: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    text = card(configs, bundle(tmp_path / "nic", {}, **fields))
    assert text.startswith("# Model card: nic\n")
    assert "## Quality" not in text
    assert "## What its confidence means" not in text
    assert "were not fitted" in text
    assert not re.search(r"\{|\bNone\b|\bnan\b", text)


def measured_maps(repository: Path) -> MapsResult:
    """A row of the project's results, with figures of its own."""
    text = (repository / "docs" / "results.json").read_text(encoding="utf-8")
    row = Results.model_validate_json(text).maps["glimpse"]
    model = row.correctness.model.model_copy(update={"mass": estimate(0.41)})
    correctness = row.correctness.model_copy(
        update={"set_name": "small test", "images": 987, "model": model}
    )
    deletion = row.deletion.model_copy(
        update={"set_name": "small dev", "images": 65, "highest": estimate(1.5)}
    )
    return row.model_copy(update={"correctness": correctness, "deletion": deletion})


def test_card_shows_calibration_and_maps_where_they_were_measured(
    configs: Path, repository: Path, tmp_path: Path
) -> None:
    usages = [
        CaptionUsage(("a", "dog"), (0.9, 0.2 + 0.1 * (n % 5)), (1.0, 0.2 * (n % 5)), 0.5)
        for n in range(20)
    ]
    measured = {
        **METRICS,
        "calibration": calibrate({"dev": usages}, {"test": usages}).metrics,
        "maps": measured_maps(repository).model_dump(mode="json"),
    }
    text = card(configs, bundle(tmp_path / "tiny", measured))
    assert "| test | captions | 20 |" in text
    assert "(reliability.svg)" in text
    assert "were not fitted" not in text
    assert "| words of people, small test: mass | 987 | 41.0<br><sub>40.0 to 42.0</sub> |" in text
    assert "| its own words, small dev: drop | 65 | 1.50<br><sub>1.49 to 1.51</sub> |" in text


def test_card_says_what_is_not_held_equal_where_a_model_shares_the_encoder(
    configs: Path, tmp_path: Path
) -> None:
    sentence = "both stayed frozen"
    for name in ("nic", "soft-attention", "glimpse"):
        assert sentence in card(configs, bundle(tmp_path / name, METRICS))
    for name in ("vit-transformer", "elsewhere"):
        assert sentence not in card(configs, bundle(tmp_path / name, METRICS))


def test_base_has_a_card_of_its_own(configs: Path, tmp_path: Path) -> None:
    text = card(configs, bundle(tmp_path / "base", METRICS))
    assert "The other models begin from it" in text
    assert "`training/configs/base.toml`; the decoder, from captions alone: " in text


def test_card_names_the_shared_files_of_its_bundle(configs: Path, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "tiny", METRICS)
    assert "weights/shared" not in card(configs, folder)
    with (folder / "SHA256SUMS").open("a", encoding="utf-8") as sums:
        sums.write(f"{'0' * 64}  ../shared/words.safetensors\n")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "words.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()
    )
    assert "MB shared with others (words.safetensors)" in card(configs, folder)


def test_examples_keep_written_verdicts_and_ask_for_new_ones(
    configs: Path, repository: Path, tmp_path: Path, shared_data: Path
) -> None:
    captioner = load_captioner(save_tiny_bundle(tmp_path / "tiny").parent, "tiny")
    images = repository / "docs" / "images"
    examples = caption_examples(captioner, images, configs, shared_data)
    verdicts = examples.verdicts({"seen before": "right", "never judged": ""})
    assert verdicts.pop("seen before") == "right"
    assert "never judged" not in verdicts
    assert set(verdicts.values()) == {""}
    judged = dict.fromkeys(verdicts, "wrong: noise")
    assert examples.verdicts(judged) == judged
    assert examples.describe(judged).count("| wrong: noise |") == 14


def test_verdicts_are_of_captions_that_the_default_models_card_shows(repository: Path) -> None:
    verdicts = json.loads((repository / "docs" / "verdicts.json").read_text(encoding="utf-8"))
    text = (repository / "weights" / "glimpse" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert all(f"| {caption} |" in text for caption, verdict in verdicts.items() if not verdict)
    assert all(
        f"| {verdict} |" in text
        for caption, verdict in verdicts.items()
        if f"| {caption} |" in text
    )
