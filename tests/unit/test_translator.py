"""The translator: maps over words that sum to 1, batches that equal single sentences, and
bundles."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundles.registry import list_models
from models.errors import CheckpointError, UnknownModelError
from models.translation.bundles import (
    TRANSLATION_FILES,
    list_translators,
    read_translation_bundle,
    translator_folder,
    update_translation_metrics,
)
from models.translation.checkpoint import load_translation
from models.translation.config import TranslationOptions
from models.translation.torch_runtime import load_translator
from tests.unit.repository import ROOT
from tests.unit.toy_translators import (
    ARCHITECTURES,
    PAIRS,
    save_toy_translator,
    toy_network,
    toy_translator,
)

TEXTS = [pair[0] for pair in PAIRS[:4]] + ["a cat", "a green bag lies here and an old lamp falls"]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_translated_words_have_maps_over_the_source_words(kind: str) -> None:
    for text, found in zip(TEXTS, toy_translator(kind).translate_texts(TEXTS), strict=True):
        assert " ".join(word.text for word in found.words) == found.text
        for word in found.words:
            assert word.alpha.shape == (len(text.split()),)
            assert word.alpha.sum() == pytest.approx(1.0, abs=1e-5)
            assert (word.alpha >= 0).all()
            assert 0 <= word.probability <= 1
        assert found.sum_logprob <= found.avg_logprob <= 0


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_translations_of_a_batch_are_those_of_single_sentences(kind: str) -> None:
    translator = toy_translator(kind)
    together = translator.translate_texts(TEXTS)
    for text, found in zip(TEXTS, together, strict=True):
        (alone,) = translator.translate_texts([text])
        assert alone.text == found.text
        assert alone.sum_logprob == pytest.approx(found.sum_logprob, abs=1e-3)
        for one, other in zip(alone.words, found.words, strict=True):
            np.testing.assert_allclose(one.alpha, other.alpha, atol=1e-4)


def test_options_are_the_model_s_own_unless_given() -> None:
    translator = toy_translator()
    short = TranslationOptions(beam_size=2, max_length=2)
    (own,) = translator.translate_texts(TEXTS[:1])
    (given,) = translator.translate_texts(TEXTS[:1], short)
    assert own.text != given.text
    assert translator.translate_texts([]) == []


def test_uniform_maps_give_each_word_the_share_of_its_subwords() -> None:
    translator = toy_translator("seq2seq")
    (found,) = translator.translate([["a", "cat"]])
    first, second = found.words[0].alpha
    assert first > 0
    assert second >= first  # "cat" has at least as many subwords


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_bundle_comes_back_as_it_was_written(tmp_path: Path, kind: str) -> None:
    folder = save_toy_translator(tmp_path, kind)
    model, bundle = load_translation(folder)
    stored = toy_network(kind).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[name].half().float()), name
    assert bundle.config.architecture == ARCHITECTURES[kind]
    assert bundle.metrics == {"dev": 0.5}
    assert load_translator(folder).translate_texts(TEXTS[:1])[0].text


def test_bundle_of_separate_vocabularies_comes_back(tmp_path: Path) -> None:
    folder = save_toy_translator(tmp_path, joint=False, tied=False)
    model, _ = load_translation(folder)
    assert not torch.equal(model.encoder.embedding.weight, model.decoder.embedding.weight)


def test_bundle_stores_tied_tensors_once(tmp_path: Path) -> None:
    tensors = read_translation_bundle(save_toy_translator(tmp_path)).tensors
    assert "decoder.embedding.weight" in tensors
    assert not {"decoder.output.weight", "encoder.embedding.weight"} & tensors.keys()


def test_translators_are_no_captioners(tmp_path: Path) -> None:
    save_toy_translator(tmp_path)
    assert list_translators(tmp_path) == ["toy"]
    assert list_models(tmp_path) == []
    (tmp_path / "languages" / "config.json").write_text("{}", encoding="utf-8")
    assert list_models(tmp_path) == []


def test_unknown_translator_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="There is none"):
        translator_folder(tmp_path, "toy")
    save_toy_translator(tmp_path)
    with pytest.raises(UnknownModelError, match="There are: toy"):
        translator_folder(tmp_path, "../toy")
    assert translator_folder(tmp_path, "toy").name == "toy"


@pytest.mark.parametrize("name", TRANSLATION_FILES)
def test_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = save_toy_translator(tmp_path)
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="does not match"):
        load_translation(folder)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    folder = save_toy_translator(tmp_path)
    (folder / "target.model").unlink()
    with pytest.raises(CheckpointError, match=r"lacks target\.model"):
        load_translation(folder)


def test_sizes_that_contradict_the_subwords_are_refused(tmp_path: Path) -> None:
    folder = save_toy_translator(tmp_path)
    _rewrite(folder, "target_vocab_size", 77)
    with pytest.raises(CheckpointError, match=r"48 subwords and config\.json says 77"):
        load_translation(folder)


def test_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    folder = save_toy_translator(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _rewrite(folder, "architecture", config["architecture"] | {"decoder_dim": 26})
    with pytest.raises(CheckpointError, match="does not fit"):
        load_translation(folder)


def test_misspelt_key_and_moved_folder_are_refused(tmp_path: Path) -> None:
    folder = save_toy_translator(tmp_path)
    moved = folder.rename(folder.with_name("other"))
    with pytest.raises(CheckpointError, match="name the folder toy"):
        read_translation_bundle(moved)
    _rewrite(moved, "colour", "red")
    with pytest.raises(CheckpointError, match="colour"):
        read_translation_bundle(moved)


def test_metrics_are_replaced_and_the_bundle_stays_whole(tmp_path: Path) -> None:
    folder = save_toy_translator(tmp_path)
    update_translation_metrics(folder, {"BLEU": 0.3})
    assert read_translation_bundle(folder).metrics == {"BLEU": 0.3}


def test_bundle_is_read_without_torch(tmp_path: Path) -> None:
    folder = save_toy_translator(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from models.translation.bundles import read_translation_bundle\n"
        "from models.translation.translator import Translator\n"
        f"read_translation_bundle(Path({str(folder)!r}))\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def _rewrite(folder: Path, key: str, value: object) -> None:
    """Change config.json, and its sum with it."""
    from models.bundles.files import write_sums

    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {key: value}
    path.write_text(json.dumps(config), encoding="utf-8")
    write_sums(folder, {}, TRANSLATION_FILES)
