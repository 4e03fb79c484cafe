"""Translators from pairs to a page, by the command line: a toy is learnt in seconds, a killed run
goes on to the same weights, and Multi30k is read where it lies."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.metrics.translation import translation_bleu
from models.errors import ConfigError
from models.translation.bundles import read_translation_bundle
from models.translation.network import build_translation_model
from models.translation.subwords import Subwords, as_captioned
from models.translation.torch_runtime import load_translator
from tests.integration.experiment import Answer, glimpse_train
from tests.unit.documentation import fences
from tests.unit.repository import ROOT
from tests.unit.toy_translators import PAIRS
from training.data.pairs import PairsConfig, read_all_pairs, read_pairs
from training.run_log import RunLog
from training.translation.batches import PairBatches, encode_pairs
from training.translation.run import train_translator
from training.translation.trainer import TranslationData, TranslationTrainer
from training.translation_config import TranslateConfig, load_translate_config

CONFIGS = ROOT / "training" / "configs" / "languages"
EXPERIMENT = """
name = "toy"
target_language = "de"

[architecture]
kind = "seq2seq-attention"
embed_dim = 32
encoder_dim = 64
decoder_dim = 64
attention_dim = 32
dropout = 0.0

[vocabulary]
size = 48

[decoding]
beam_size = 2
max_length = 40

[training]
epochs = 30
batch_tokens = 100
learning_rate = 1e-2
label_smoothing = 0.0
ema_decay = 0.9
validate_every = 15
mean_of_last = 2

[[train]]
name = "toy"
pairs = "toy.tsv"

[[dev]]
name = "toy-dev"
pairs = "dev.tsv"

[[test]]
name = "toy-test"
source = "test.en"
target = "test.de"
"""


def workspace(folder: Path) -> Path:
    """The toy's pairs in data/, its experiment, and nothing else."""
    data = folder / "data"
    data.mkdir(parents=True)
    lines = [f"{source}\t{target}\n" for source, target in PAIRS]
    (data / "toy.tsv").write_text("".join(lines), encoding="utf-8")
    (data / "dev.tsv").write_text("".join(lines[::6]), encoding="utf-8")
    (data / "test.en").write_text("".join(f"{p[0]}\n" for p in PAIRS[::2]), encoding="utf-8")
    (data / "test.de").write_text("".join(f"{p[1]}\n" for p in PAIRS[::2]), encoding="utf-8")
    (folder / "experiments").mkdir()
    (folder / "experiments" / "toy.toml").write_text(EXPERIMENT, encoding="utf-8")
    return folder


def run(place: Path, command: str, *options: str) -> Answer:
    """Run a command on the toy, with its folders below `place`."""
    folders = {
        "train-translator": ["data", "runs"],
        "export-translator": ["data", "runs", "weights"],
        "translations": ["experiments", "data", "weights"],
    }
    given = [] if command == "translations" else [str(place / "experiments" / "toy.toml")]
    for name in folders[command]:
        given += [f"--{name}-folder", str(place / name)]
    return glimpse_train(command, *given, *options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy, trained and exported; tests only read it."""
    place = workspace(tmp_path_factory.mktemp("languages"))
    for command in ("train-translator", "export-translator"):
        answer = run(place, command)
        assert answer.code == 0, answer.err
    return place


def bundle(place: Path) -> Path:
    return place / "weights" / "languages" / "toy"


def test_trained_toy_translates_both_manners_with_case_and_punctuation(trained: Path) -> None:
    translator = load_translator(bundle(trained))
    for texts in ([p[0] for p in PAIRS], [as_captioned(p[0]) for p in PAIRS]):
        found = [each.text for each in translator.translate_texts(texts)]
        assert translation_bleu([p[1] for p in PAIRS], found).value > 0.5


def test_run_leaves_its_history_and_its_subwords(trained: Path) -> None:
    history = json.loads((trained / "runs" / "toy" / "history.json").read_text("utf-8"))
    assert [each["epoch"] for each in history] == [14, 29]
    assert {"toy-dev written", "toy-dev captioned"} <= history[0].keys()
    assert (trained / "runs" / "toy" / "source.model").is_file()


def test_translations_write_a_page_a_picture_and_metrics(trained: Path, tmp_path: Path) -> None:
    place = shutil.copytree(trained, tmp_path / "copy")
    page = tmp_path / "docs" / "translations.md"
    answer = run(
        place,
        "translations",
        "--output",
        str(page),
        "--sentences-folder",
        str(tmp_path / "sentences"),
    )
    assert answer.code == 0, answer.err
    text = page.read_text(encoding="utf-8")
    assert "English to German" in text
    assert "tok:13a" in text
    assert (page.parent / "images" / "translations-by-length.svg").is_file()
    results = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert results["sizes"] == {"toy-test": len(PAIRS[::2])}
    metrics = read_translation_bundle(bundle(place)).metrics
    assert metrics["scores"] == results["rows"][0]["scores"]
    sentences = (tmp_path / "sentences" / "toy.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(sentences[0])["source"] == PAIRS[0][0]


def test_quick_look_prints_and_writes_nothing(trained: Path, tmp_path: Path) -> None:
    place = shutil.copytree(trained, tmp_path / "copy")
    before = (bundle(place) / "metrics.json").read_bytes()
    answer = run(
        place,
        "translations",
        "--limit",
        "5",
    )
    assert answer.code == 0, answer.err
    assert "first 5 sentences" in answer.out
    assert (bundle(place) / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("models", "said"),
    [("nobody", "No translator is called 'nobody'. There are: toy."), ("../x", "No translator")],
)
def test_unknown_translator_is_one_sentence(trained: Path, models: str, said: str) -> None:
    answer = run(
        trained,
        "translations",
        "--models",
        models,
    )
    assert answer.code == 1
    assert said in answer.err


def test_lines_become_pairs_that_can_be_learnt_from(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text(
        '{"captions": ["A red cat sleeps.", " "]}\nA blue\tbag  falls.\n\n', encoding="utf-8"
    )
    options = ("--weights-folder", str(trained / "weights"))
    places = (str(tmp_path / "lines.jsonl"), str(tmp_path / "made.tsv"))
    answer = glimpse_train("translate-lines", "toy", *places, *options)
    assert answer.code == 0, answer.err
    pairs = read_pairs(PairsConfig(name="made", pairs=tmp_path / "made.tsv"))
    assert [pair.source for pair in pairs] == ["A red cat sleeps.", "A blue bag falls."]
    assert all(pair.target for pair in pairs)


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "has no sentence"), ('A cat.\n{"photo": 1}\n', "line 2: is no JSON object")],
)
def test_lines_that_cannot_be_translated_are_refused(
    trained: Path, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "lines").write_text(content, encoding="utf-8")
    options = ("--weights-folder", str(trained / "weights"))
    places = (str(tmp_path / "lines"), str(tmp_path / "made.tsv"))
    answer = glimpse_train("translate-lines", "toy", *places, *options)
    assert answer.code == 1
    assert said in answer.err


def test_export_before_training_is_refused(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    answer = run(place, "export-translator")
    assert answer.code == 1
    assert "train first" in answer.err


def test_run_with_other_pairs_is_refused(trained: Path, tmp_path: Path) -> None:
    place = shutil.copytree(trained, tmp_path / "copy")
    pairs = place / "data" / "toy.tsv"
    pairs.write_text(pairs.read_text(encoding="utf-8") + "New.\tNeu.\n", encoding="utf-8")
    answer = run(place, "train-translator")
    assert answer.code == 1
    assert "other pairs" in answer.err


class _KilledError(Exception):
    pass


def trainer_of(place: Path, name: str) -> TranslationTrainer:
    """A trainer of the toy whose run is called `name`."""
    experiment = place / "experiments" / "toy.toml"
    config = load_translate_config(experiment, place / "data")
    training = config.training.model_copy(update={"epochs": 3, "validate_every": 1})
    config = config.model_copy(update={"training": training})
    subwords = Subwords((place / "runs" / "toy" / "source.model").read_bytes())
    examples = encode_pairs(read_all_pairs(config.train), subwords, subwords, 100)
    batches = PairBatches(examples, subwords, subwords, captioned_share=0.5, sampling=0.1)
    dev = {each.name: read_pairs(each) for each in config.dev}
    described = config.describe(len(subwords), len(subwords))
    torch.manual_seed(config.seed)
    return TranslationTrainer(
        config,
        TranslationData(batches, dev, subwords, subwords),
        build_translation_model(described),
        described,
        torch.device("cpu"),
        RunLog(place / "runs" / name, speaks=False),
    )


def test_killed_run_goes_on_to_the_weights_of_an_unbroken_one(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shutil.copytree(trained, tmp_path / "copy")
    whole = trainer_of(place, "whole").run()
    broken = trainer_of(place, "broken")
    step = TranslationTrainer._step
    taken = 0

    def killed_step(self: TranslationTrainer, *given: Any) -> float:
        nonlocal taken
        if taken == 5:
            broken._save()
            raise _KilledError
        taken += 1
        return step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(TranslationTrainer, "_step", killed_step)
        with pytest.raises(_KilledError):
            broken.run()
    resumed = trainer_of(place, "broken").run()
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


def test_finished_run_is_left_as_it_is(trained: Path, tmp_path: Path) -> None:
    place = shutil.copytree(trained, tmp_path / "copy")
    state = place / "runs" / "toy" / "state" / "best.safetensors"
    before = state.read_bytes()
    answer = run(place, "train-translator")
    assert answer.code == 0, answer.err
    assert state.read_bytes() == before


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.distributed import Processes

    place = workspace(tmp_path)
    two = Processes(0, 2, torch.device("cpu"))
    monkeypatch.setattr(Processes, "join", classmethod(lambda *_: two))
    config: TranslateConfig = load_translate_config(
        place / "experiments" / "toy.toml", place / "data"
    )
    with pytest.raises(ConfigError, match="without torchrun"):
        train_translator(config, runs_folder=tmp_path / "runs", device="cpu", next_step="")


@pytest.mark.docs
def test_experiment_of_languages_md_is_read_and_its_example_fits(tmp_path: Path) -> None:
    """Its TOML lies beside the shipped ones, its pairs are as the page shows them."""
    folder = shutil.copytree(CONFIGS, tmp_path / "configs")
    blocks = {fence.language: fence.code for fence in fences("languages.md")}
    (folder / "en-ko.toml").write_text(blocks["toml"], encoding="utf-8")
    config = load_translate_config(folder / "en-ko.toml", tmp_path)
    assert config.target_language == "ko"
    assert config.train[0].pairs is not None
    config.train[0].pairs.write_text(blocks["text"].replace(" → ", "\t"), encoding="utf-8")
    pairs = read_all_pairs(config.train)
    assert len(pairs) == len(blocks["text"].splitlines())


@pytest.mark.parametrize("language", ["de", "fr", "cs"])
def test_multi30k_is_read_whole_and_aligned(shared_data: Path, language: str) -> None:
    name = {"de": "en-de-additive"}.get(language, f"en-{language}-transformer")
    config = load_translate_config(CONFIGS / f"{name}.toml", shared_data)
    assert len(read_all_pairs(config.train)) == 29_000
    assert [len(read_pairs(each)) for each in config.dev] == [1_014]
    sizes = {each.name: len(read_pairs(each)) for each in config.test}
    wanted = {"test_2016_flickr": 1_000, "test_2018_flickr": 1_071}
    if language != "cs":
        wanted |= {"test_2017_flickr": 1_000, "test_2017_mscoco": 461}
    assert sizes == wanted
