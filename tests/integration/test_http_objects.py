"""Answers of a model with a tagger: what was found in the picture, and what each word looked at."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import torch
from fastapi.testclient import TestClient
from PIL import Image

from models.bundles.checkpoint import load_checkpoint, save_checkpoint
from models.config import ModelConfig, TaggerConfig
from models.decoders.config import AttentionConfig
from models.decoders.show_attend_tell import AttentionDecoder
from models.encoders import default_preprocess
from models.tagging.classes import class_word_ids
from models.tokenizer import Vocabulary
from tests.unit.toys import WORDS, save_tiny_bundle, tiny_model
from training.tagger_weights import read_tagger

KNOWN = (*WORDS, "cup", "coffee", "glass")
SIZE = (300, 200)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, shared_encoders: Path) -> Path:
    """A captioner of random weights whose tagger is the published one."""
    config = ModelConfig(
        name="eyes",
        encoder="tiny",
        encoder_pixels=56,
        tagger=TaggerConfig(),
        decoder=AttentionConfig(embed_dim=8, decoder_dim=12, attention_dim=6, tags=True),
        vocab_size=len(Vocabulary(KNOWN)),
        preprocess=default_preprocess("tiny", 56).model_copy(update={"size_pixels": 416}),
    )
    model = tiny_model(config)
    assert model.tagger is not None
    model.tagger.load_state_dict(read_tagger(shared_encoders))
    assert isinstance(model.decoder, AttentionDecoder)
    assert model.decoder.tags is not None
    model.decoder.tags.set_words(class_word_ids(Vocabulary(KNOWN)))
    torch.nn.init.zeros_(model.decoder.tags.none.bias)  # it looks at tags too
    folder = tmp_path_factory.mktemp("weights")
    save_checkpoint(folder / "eyes", model, config, Vocabulary(KNOWN), {})
    save_tiny_bundle(folder / "plain")
    return folder


@pytest.fixture(scope="module")
def coffee() -> bytes:
    load: Callable[[], npt.NDArray[np.uint8]] = skimage.data.coffee
    file = io.BytesIO()
    Image.fromarray(load()).resize(SIZE).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def seeing(bundle: Path, serve: Callable[..., Any]) -> Iterator[TestClient]:
    """A client of a service whose default model has a tagger."""
    with serve(
        captioner="real", weights_folder=bundle, model="eyes", precision="float32"
    ) as client:
        yield client


@pytest.fixture(scope="module")
def ask(seeing: TestClient, coffee: bytes) -> Callable[..., dict[str, Any]]:
    """Post the photo of a cup, with options in the address."""

    def post(path: str, **options: str) -> dict[str, Any]:
        response = seeing.post(path, files={"image": coffee}, params=options)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    return post


@pytest.mark.parametrize("path", ["/caption", "/attention"])
def test_objects_that_were_asked_for_are_listed_with_boxes_in_pixels(
    ask: Callable[..., dict[str, Any]], path: str
) -> None:
    document = ask(path, include="objects")

    (cup,) = (found for found in document["objects"] if found["name"] == "cup")
    assert 0.5 < cup["score"] <= 1
    left, top, right, bottom = cup["box"]
    assert 0 <= left < 150 < right <= SIZE[0]
    assert 0 <= top < 100 < bottom <= SIZE[1]
    assert "espresso" in {found["name"] for found in document["concepts"]}
    scores = [found["score"] for found in document["objects"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("path", ["/caption", "/attention"])
def test_objects_that_were_not_asked_for_are_not_there(
    ask: Callable[..., dict[str, Any]], path: str
) -> None:
    assert {"objects", "concepts"}.isdisjoint(ask(path))


def test_each_word_says_what_its_map_lies_on(ask: Callable[..., dict[str, Any]]) -> None:
    document = ask("/attention")

    for word in document["words"]:
        looked_at = word["looked_at"]
        total = looked_at["cells"] + looked_at["objects"] + looked_at["concepts"]
        assert total == pytest.approx(1.0, abs=1e-4)
        assert looked_at["name"] in ("cup", "espresso", "dining table", "cellphone")
        assert sum(map(sum, word["alpha"])) == pytest.approx(1.0, abs=1e-4)
    assert any(word["looked_at"]["objects"] > 0.01 for word in document["words"])


@pytest.mark.parametrize("path", ["/caption", "/attention"])
def test_model_without_a_tagger_says_nothing_of_objects(
    ask: Callable[..., dict[str, Any]], path: str
) -> None:
    document = ask(path, include="objects", model="plain")

    assert {"objects", "concepts"}.isdisjoint(document)
    assert all("looked_at" not in word for word in document.get("words", ()))


def test_unknown_thing_to_include_is_refused(seeing: TestClient, coffee: bytes) -> None:
    response = seeing.post("/caption?include=dreams", files={"image": coffee})
    assert response.status_code == 422
    assert response.json()["errors"][0]["option"] == "include"


def test_models_tells_of_the_tagger(seeing: TestClient) -> None:
    eyes, plain = (seeing.get(f"/models/{name}").json() for name in ("eyes", "plain"))
    assert eyes["config"]["tagger"] == TaggerConfig().model_dump()
    assert eyes["config"]["tags"] is True
    assert {"tagger", "encoder_pixels"}.isdisjoint(plain["config"])


def test_bundle_with_a_tagger_is_loaded_as_it_was_saved(bundle: Path) -> None:
    model = load_checkpoint(bundle / "eyes").model
    again = load_checkpoint(bundle / "eyes").model
    assert model.tagger is not None
    assert isinstance(model.decoder, AttentionDecoder)
    assert model.decoder.tags is not None
    expected = torch.tensor(class_word_ids(Vocabulary(KNOWN)))
    assert torch.equal(model.decoder.tags.class_words, expected)
    pixels = torch.randint(0, 256, (1, 3, 416, 416), dtype=torch.uint8)
    config = default_preprocess("tiny", 56)
    with torch.inference_mode():
        one, other = (each.see(pixels, config) for each in (model, again))
    assert torch.equal(one.annotations, other.annotations)
    assert one.annotations.shape == (1, 196, model.feature_dim)
