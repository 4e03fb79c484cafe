"""Experiments that train translators: those that ship, what one is completed from, what is
refused."""

from pathlib import Path

import pytest

from models.errors import ConfigError
from models.translation.network import build_translation_model
from tests.unit.repository import ROOT
from training.translation_config import load_translate_config

CONFIGS = ROOT / "training" / "configs" / "languages"
SHIPPED = sorted(CONFIGS.glob("*.toml"))
MINIMAL = """
name = "toy"
target_language = "de"
[[train]]
name = "toy"
pairs = "toy.tsv"
[[dev]]
name = "toy"
pairs = "dev.tsv"
"""


def load(folder: Path, text: str) -> object:
    (folder / "toy.toml").write_text(text, encoding="utf-8")
    return load_translate_config(folder / "toy.toml", Path("data"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_experiment_is_read_and_its_network_can_be_built(path: Path) -> None:
    config = load_translate_config(path, Path("data"))
    assert config.name == path.stem
    assert config.train[0].source == Path("data/multi30k/train.en.gz")
    assert config.train[0].target == Path(f"data/multi30k/train.{config.target_language}.gz")
    assert config.test
    size = config.vocabulary.size
    build_translation_model(config.describe(size, size))


def test_shipped_experiments_are_five_architectures_and_three_languages() -> None:
    configs = [load_translate_config(path, Path("data")) for path in SHIPPED]
    german = [each for each in configs if each.target_language == "de"]
    kinds = [
        (each.architecture.kind, getattr(each.architecture, "attention", "")) for each in german
    ]
    assert len(set(kinds)) == len(kinds) == 5
    assert {each.target_language for each in configs} == {"de", "fr", "cs"}


def test_experiment_says_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "first.toml").write_text(
        MINIMAL + "[training]\nepochs = 3\nclip_norm = 2.0\n"
        "[architecture]\nkind = 'seq2seq'\nhidden_dim = 9\n",
        encoding="utf-8",
    )
    text = (
        "like = 'first.toml'\nname = 'second'\n[training]\nepochs = 4\n"
        "[architecture]\nkind = 'transformer'\n"
    )
    (tmp_path / "second.toml").write_text(text, encoding="utf-8")
    config = load_translate_config(tmp_path / "second.toml", Path("data"))
    assert (config.training.epochs, config.training.clip_norm) == (4, 2.0)
    assert config.architecture.kind == "transformer"
    assert config.train[0].pairs == Path("data/toy.tsv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL.replace('"de"', '"German"'), "target_language"),
        (MINIMAL.replace('"de"', '"en"'), "must differ from source_language"),
        (MINIMAL.replace('target_language = "de"\n', ""), "target_language: Field required"),
        (MINIMAL + "[[test]]\nname = 'toy'\npairs = 'x'\n", "two dev and test sets"),
        (MINIMAL + "[architecture]\nkind = 'brain'\n", "architecture"),
        (MINIMAL + "[architecture]\nkind = 'seq2seq'\nheads = 3\n", "architecture.heads"),
        (
            MINIMAL + "[architecture]\nkind = 'seq2seq-attention'\nattention = 'hard'\n",
            "architecture.attention",
        ),
        (MINIMAL + "[training]\nepoch = 3\n", "training.epoch"),
        (MINIMAL + "[training]\ncaptioned_share = 1.5\n", "training.captioned_share"),
        (MINIMAL + "[vocabulary]\nkind = 'words'\n", "vocabulary.kind"),
        (MINIMAL + "[decoding]\nbeam_size = 2\nnum_captions = 3\n", "num_captions"),
        (MINIMAL.replace("[[dev]]", "[[test]]"), "dev: name sets that choose"),
        (MINIMAL.replace("[[train]]", "hold_out = 9\n[[train]]"), "dev: name sets that choose"),
        ("name = ", "is no TOML"),
    ],
)
def test_mistake_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, text)


def test_absent_experiment_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_translate_config(Path("nowhere.toml"), Path("data"))
