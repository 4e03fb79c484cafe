"""Where models began: what the page says of lent parts is what bundles and experiments hold."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.measures.lineage import describe_origins, origins_section
from models.captioner import NetworkCaptioner
from models.encoders import default_preprocess
from models.loading import load_captioner
from tests.unit.toys import save_tiny_bundle
from training.config import load_config

EXPERIMENT = """
name = "{name}"
{borrows}
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
[[stages]]
kind = "{kind}"
freeze_words = {frozen}
epochs = {epochs}
"""
MODELS: dict[str, dict[str, Any]] = {
    "base": {},
    "soft-attention": {},
    "cosine": {"attention": "cosine"},
    "transformer": {"decoder": "transformer", "layers": 1, "heads": 2},
    "vit": {
        **{"encoder": "vit_patch16", "preprocess": default_preprocess("vit_patch16", 224)},
        **{"decoder": "transformer", "layers": 1, "heads": 2},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles in weights/, and an experiment of each but `alone` in configs/."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "configs").mkdir()
    for epochs, (name, fields) in enumerate({**MODELS, "alone": {}}.items(), start=1):
        save_tiny_bundle(folder / "weights" / name, **fields)
        is_base = name == "base"
        values = (
            ("", "finetune", "false") if is_base else ('borrow_from = "base"', "frozen", "true")
        )
        text = EXPERIMENT.format(
            name=name,
            epochs=epochs,
            **dict(zip(("borrows", "kind", "frozen"), values, strict=True)),
        )
        if name != "alone":
            (folder / "configs" / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def captioners(folder: Path) -> list[NetworkCaptioner]:
    return [
        load_captioner(folder / "weights", name, precision="float32") for name in (*MODELS, "alone")
    ]


def test_describe_origins_shares_are_of_what_has_the_lenders_name_and_shape(
    folder: Path, captioners: list[NetworkCaptioner]
) -> None:
    origins = describe_origins(captioners, folder / "configs")
    assert list(origins) == list(MODELS)
    assert origins["base"] == {"lender": None, "stages": ["encoder and decoder: 1 epoch"]}
    soft, cosine, transformer, vit = (origins[name] for name in list(MODELS)[1:])
    assert soft["stages"] == ["encoder frozen, words frozen: 2 epochs"]
    assert (soft["begun"], soft["new"], soft["same_encoder"], soft["same_words"]) == (
        1.0,
        [],
        True,
        True,
    )
    assert cosine["new"] == ["attention"]
    assert 0.5 < cosine["begun"] <= 1
    assert transformer["begun"] < 0.1
    assert (vit["encoder_begun"], vit["same_encoder"]) == (0.0, False)


def test_describe_origins_without_the_lender_tells_its_name_and_the_stages(
    folder: Path, captioners: list[NetworkCaptioner]
) -> None:
    (alone,) = describe_origins(captioners[1:2], folder / "configs").values()
    assert alone == {"lender": "base", "stages": ["encoder frozen, words frozen: 2 epochs"]}


def test_describe_origins_goes_back_through_experiments_whose_bundles_are_not_there(
    captioners: list[NetworkCaptioner], tmp_path: Path
) -> None:
    for name, lender, epochs in (("soft-attention", "middle", 2), ("middle", "base", 3)):
        text = EXPERIMENT.format(
            name=name,
            borrows=f'borrow_from = "{lender}"',
            kind="frozen",
            frozen="true",
            epochs=epochs,
        )
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")

    (soft,) = describe_origins(captioners[:2], tmp_path).values()
    (orphan,) = describe_origins(captioners[1:2], tmp_path).values()

    assert soft["lender"] == "base"
    assert soft["stages"] == [f"encoder frozen, words frozen: {epochs} epochs" for epochs in (3, 2)]
    assert soft["begun"] == 1.0
    assert orphan == {"lender": "middle", "stages": ["encoder frozen, words frozen: 2 epochs"]}


def test_origins_section_names_those_that_share_an_encoder_and_no_others(
    folder: Path, captioners: list[NetworkCaptioner]
) -> None:
    models = {"base": {"decoder": "attention", "attention": "additive"}}
    text = origins_section(
        {"origins": describe_origins(captioners, folder / "configs"), "models": models}
    )
    lent = (
        "The encoder of `base`, fine-tuned under its decoder (additive attention), and its "
        "words serve `soft-attention`"
    )
    assert lent in text
    assert "`vit`" not in text[: text.index("\n|")]
    row = (
        "| `soft-attention` | that of `base` | that of `base` | 100.0 | none | encoder frozen, "
        "words frozen: 2 epochs |"
    )
    assert row in text
    assert "| `vit` | its own |" in text
    assert "alone" not in text


def test_origins_section_without_experiments_is_empty() -> None:
    assert origins_section({"origins": {}, "models": {}}) == ""


def test_shipped_experiments_that_share_the_encoder_keep_it_and_the_words(repository: Path) -> None:
    """The cards say that both stayed frozen."""
    for path in (repository / "training" / "configs").glob("*.toml"):
        config = load_config(path, Path("data"))
        if "encoder" in config.shared and (config.borrow_from or config.start_from):
            assert all(stage.kind != "finetune" and stage.freeze_words for stage in config.stages)
