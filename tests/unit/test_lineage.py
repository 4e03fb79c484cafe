"""What models began with: what the page says is what bundles and experiments hold."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.measures.lineage import describe_lineage
from evaluation.report.sections import lineage
from evaluation.results import Lineage, Results
from models.bundles.checkpoint import load_checkpoint
from models.encoders import default_preprocess
from models.network import CaptioningModel, build_model
from models.tokenizer import Vocabulary
from tests.unit.seeing_toys import seeing_config
from tests.unit.toys import WORDS, save_tiny_bundle
from training.config import load_config
from training.initialization import initialize_from

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
def networks(folder: Path) -> dict[str, CaptioningModel]:
    return {name: load_checkpoint(folder / "weights" / name).model for name in (*MODELS, "alone")}


@pytest.fixture
def results(repository: Path) -> Results:
    """Those of the project."""
    text = (repository / "docs" / "results.json").read_text(encoding="utf-8")
    return Results.model_validate_json(text)


def test_describe_lineage_of_a_model_that_took_encoder_and_words_alone_shares_no_more(
    folder: Path, networks: dict[str, CaptioningModel], tmp_path: Path
) -> None:
    for name in ("base", "soft-attention"):
        text = (folder / "configs" / f"{name}.toml").read_text(encoding="utf-8")
        borrowed = 'borrow_from = "base"\nborrow_parts = ["encoder", "words"]'
        text = text.replace('borrow_from = "base"', borrowed)
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    described = describe_lineage(networks, tmp_path)["soft-attention"]
    assert (described.same_encoder, described.same_words) == (True, True)
    assert described.decoder_share == 0.0


def test_describe_lineage_shares_are_of_what_has_the_sources_name_and_shape(
    folder: Path, networks: dict[str, CaptioningModel]
) -> None:
    described = describe_lineage(networks, folder / "configs")
    assert list(described) == list(MODELS)
    assert described["base"] == Lineage(source=None, stages=("encoder and decoder: 1 epoch",))
    soft, cosine, transformer, vit = (described[name] for name in list(MODELS)[1:])
    assert soft.stages == ("encoder frozen, words frozen: 2 epochs",)
    assert (soft.decoder_share, soft.new_parts) == (1.0, ())
    assert (soft.same_encoder, soft.same_words) == (True, True)
    assert cosine.new_parts == ("attention",)
    assert cosine.decoder_share is not None
    assert 0.5 < cosine.decoder_share <= 1
    assert transformer.decoder_share is not None
    assert transformer.decoder_share < 0.1
    assert (vit.encoder_share, vit.same_encoder) == (0.0, False)


def test_describe_lineage_a_tagger_beside_the_sources_encoder_is_no_second_encoder(
    networks: dict[str, CaptioningModel], results: Results, tmp_path: Path
) -> None:
    seeing = build_model(seeing_config("seeing", vocab_size=len(Vocabulary(WORDS))))
    initialize_from(seeing, networks["base"])
    text = EXPERIMENT.format(
        name="seeing", borrows='borrow_from = "base"', kind="frozen", frozen="true", epochs=1
    )
    (tmp_path / "seeing.toml").write_text(text, encoding="utf-8")

    described = describe_lineage({"base": networks["base"], "seeing": seeing}, tmp_path)

    (one,) = described.values()
    assert (one.same_encoder, one.has_second_encoder, one.encoder_share) == (True, False, 1.0)
    assert one.new_parts == ("lstm_tags", "readout_tags", "tags")
    assert results.table is not None
    table = results.table.model_copy(update={"lineage": described})
    assert "and one more" not in lineage.section(Results(table=table))


def test_describe_lineage_without_the_source_tells_its_name_and_the_stages(
    folder: Path, networks: dict[str, CaptioningModel]
) -> None:
    one = {"soft-attention": networks["soft-attention"]}
    (alone,) = describe_lineage(one, folder / "configs").values()
    assert alone == Lineage(source="base", stages=("encoder frozen, words frozen: 2 epochs",))


def test_describe_lineage_goes_back_through_experiments_whose_bundles_are_not_there(
    networks: dict[str, CaptioningModel], tmp_path: Path
) -> None:
    for name, source, epochs in (("soft-attention", "middle", 2), ("middle", "base", 3)):
        text = EXPERIMENT.format(
            name=name,
            borrows=f'borrow_from = "{source}"',
            kind="frozen",
            frozen="true",
            epochs=epochs,
        )
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    both = {name: networks[name] for name in ("base", "soft-attention")}
    one = {"soft-attention": networks["soft-attention"]}

    (soft,) = describe_lineage(both, tmp_path).values()
    (orphan,) = describe_lineage(one, tmp_path).values()

    assert soft.source == "base"
    assert soft.stages == tuple(
        f"encoder frozen, words frozen: {epochs} epochs" for epochs in (3, 2)
    )
    assert soft.decoder_share == 1.0
    assert orphan == Lineage(source="middle", stages=("encoder frozen, words frozen: 2 epochs",))


def test_section_names_those_that_share_an_encoder_and_no_others(
    folder: Path, networks: dict[str, CaptioningModel], results: Results
) -> None:
    assert results.table is not None
    described = describe_lineage(networks, folder / "configs")
    table = results.table.model_copy(update={"lineage": described})
    text = lineage.section(Results(table=table))
    shared = (
        "The encoder of `base`, fine-tuned under its decoder (additive attention), and its "
        "words serve `soft-attention`"
    )
    assert shared in text
    assert "`vit`" not in text[: text.index("\n|")]
    row = (
        "| `soft-attention` | that of `base` | that of `base` | 100.0 | none | encoder frozen, "
        "words frozen: 2 epochs |"
    )
    assert row in text
    assert "| `vit` | its own |" in text
    assert "alone" not in text


def test_section_without_experiments_is_empty(results: Results) -> None:
    assert results.table is not None
    table = results.table.model_copy(update={"lineage": {}})
    assert lineage.section(Results(table=table)) == ""


def test_shipped_experiments_that_share_the_encoder_keep_it_and_the_words(repository: Path) -> None:
    """The cards say that both stayed frozen."""
    for path in (repository / "training" / "configs").glob("*.toml"):
        config = load_config(path, Path("data"))
        if "encoder" in config.shared and (config.borrow_from or config.start_from):
            assert all(stage.kind != "finetune" and stage.freeze_words for stage in config.stages)
