"""Several real models over HTTP: selected by name, listed with their metrics, sharing an encoder,
failing alone."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openvino
import pytest
import torch
from fastapi.testclient import TestClient

from app.api.answers import MAPS
from app.engine.engine import CaptionEngine, ModelHandle
from models.bundles.checkpoint import save_checkpoint
from models.bundles.tensors import save_shared
from models.calibration import CalibrationConfig, caption_confidence, word_confidence
from models.config import MapKind
from models.loading import describe_captioner
from models.memory import total_bytes
from models.threads import usable_processors
from models.tokenizer import Vocabulary
from tests.unit.toys import WORDS, save_tiny_bundle, tiny_config, tiny_model

DEFAULT, OTHER = "first", "second"


def save_family(weights: Path) -> None:
    """Two bundles with one encoder file; the second one's decoder is the first one's, turned upside
    down."""
    for name in (DEFAULT, OTHER):
        model = tiny_model(tiny_config(name))
        if name == OTHER:
            with torch.no_grad():
                for parameter in model.decoder.parameters():
                    parameter.copy_(parameter.flip(0))
        encoder = {
            key: tensor for key, tensor in model.state_dict().items() if key.startswith("encoder.")
        }
        save_shared(weights, "encoder", encoder)
        save_checkpoint(
            weights / name, model, tiny_config(name), Vocabulary(WORDS), {"of": name}, ["encoder"]
        )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_family(tmp_path)
    return tmp_path


@pytest.fixture
def client(weights: Path, serve: Callable[..., Any]) -> Iterator[TestClient]:
    with serve(
        captioner="real", weights_folder=weights, model=DEFAULT, precision="float32"
    ) as client:
        yield client


def post(client: TestClient, image_file: bytes, path: str = "/caption", **options: Any) -> Any:
    return client.post(path, files={"image": ("photo.jpg", image_file, "image/jpeg")}, **options)


def listed(client: TestClient) -> dict[str, Any]:
    response = client.get("/models")
    assert response.status_code == 200
    return {model["name"]: model for model in response.json()["models"]}


def metric(client: TestClient, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_each_model_answers_with_its_own_caption_and_name(
    client: TestClient, image_file: bytes
) -> None:
    answers = [
        post(client, image_file),
        post(client, image_file, params={"model": OTHER}),
        post(client, image_file),
    ]
    documents = [answer.json() for answer in answers]
    assert [document["model"]["name"] for document in documents] == [DEFAULT, OTHER, DEFAULT]
    assert documents[0]["caption"] != documents[1]["caption"]
    assert documents[0]["captions"] == documents[2]["captions"]
    assert documents[0]["model"]["digest"] != documents[1]["model"]["digest"]


@pytest.mark.parametrize("place", ["params", "data"])
@pytest.mark.parametrize("path", ["/caption", "/attention"])
def test_model_is_selected_in_the_address_and_in_the_form(
    client: TestClient, image_file: bytes, path: str, place: str
) -> None:
    named: Any = {place: {"model": OTHER}}
    assert post(client, image_file, path, **named).json()["model"]["name"] == OTHER


def test_models_are_listed_with_their_metrics_loaded_or_not(
    client: TestClient, image_file: bytes
) -> None:
    before = listed(client)
    assert [(model["loaded"], model["default"]) for model in before.values()] == [
        (True, True),
        (False, False),
    ]
    assert [model["metrics"] for model in before.values()] == [{"of": DEFAULT}, {"of": OTHER}]
    assert before[OTHER]["config"]["encoder"] == "tiny"

    digest = post(client, image_file, params={"model": OTHER}).json()["model"]["digest"]

    after = listed(client)
    assert before[OTHER]["runtime"] is None
    assert after[OTHER] == before[OTHER] | {"loaded": True, "runtime": after[DEFAULT]["runtime"]}
    runtime = after[DEFAULT]["runtime"]
    threads = runtime["threads"]
    assert 1 <= threads <= usable_processors()
    assert (runtime["name"], runtime["precision"]) == ("openvino", "float32")
    line = f'glimpse_runtime_info{{precision="float32",runtime="openvino",threads="{threads}",'
    version = openvino.__version__.partition("-")[0]
    assert f'{line}version="{version}"}} 1.0' in client.get("/metrics").text
    assert after[OTHER]["digest"] == digest
    assert client.get(f"/models/{OTHER}").json() == after[OTHER]
    assert client.get("/readyz").json()["model"] == DEFAULT


def test_calibrated_model_answers_with_fitted_confidences_and_lists_no_offsets(
    tmp_path: Path, image_file: bytes, serve: Callable[..., Any]
) -> None:
    calibration = CalibrationConfig(slope=0.5, offset=-1.0, words=dict.fromkeys(WORDS, 0.25))
    save_tiny_bundle(tmp_path / "sure", calibration=calibration)
    with serve(
        captioner="real", weights_folder=tmp_path, model="sure", precision="float32"
    ) as client:
        caption, attention = (
            post(client, image_file, path).json() for path in ("/caption", "/attention")
        )
        described = client.get("/models/sure").json()
    best = caption["captions"][0]
    assert caption["calibrated"] is attention["calibrated"] is described["calibrated"] is True
    for word in best["words"]:
        expected = word_confidence(calibration, word["word"], word["probability"])
        assert word["confidence"] == pytest.approx(expected, abs=1e-5)
    expected = caption_confidence((word["word"], word["confidence"]) for word in best["words"])
    assert best["confidence"] == pytest.approx(expected, abs=1e-5)
    assert [word["confidence"] for word in attention["words"]] == [
        word["confidence"] for word in best["words"]
    ]
    assert "calibration" not in described["config"]


@pytest.mark.parametrize(
    ("fields", "said", "spread"),
    [
        ({"attention": "cosine"}, "soft attention", None),
        ({"attention": "hard"}, "hard attention", 1.0),
        ({"decoder": "nic"}, "one vector", 1 / 196),
        ({"decoder": "lrcn-factored"}, "one vector", 1 / 196),
        (
            {"decoder": "transformer", "heads": 2},
            "cross-attention of the last layer, averaged over its heads",
            None,
        ),
    ],
)
def test_attention_says_what_the_maps_of_each_kind_of_model_are(
    tmp_path: Path,
    image_file: bytes,
    serve: Callable[..., Any],
    fields: dict[str, Any],
    said: str,
    spread: float | None,
) -> None:
    save_tiny_bundle(tmp_path / "kind", **fields)
    with serve(
        captioner="real", weights_folder=tmp_path, model="kind", precision="float32"
    ) as client:
        document = post(client, image_file, "/attention").json()
    assert said in document["maps"]
    for word in document["words"]:
        cells = [cell for row in word["alpha"] for cell in row]
        assert sum(cells) == pytest.approx(1, abs=1e-4)
        assert spread is None or max(cells) == pytest.approx(spread, abs=1e-6)


def test_every_kind_of_map_has_a_text() -> None:
    assert set(MAPS) == set(MapKind)


def test_models_in_memory_count_their_shared_encoder_once(
    client: TestClient, weights: Path, image_file: bytes
) -> None:
    uses = [describe_captioner(weights, name).memory for name in (DEFAULT, OTHER)]
    assert metric(client, "glimpse_models_memory_bytes") == total_bytes(uses[:1])
    post(client, image_file, params={"model": OTHER})
    assert metric(client, "glimpse_models_memory_bytes") == total_bytes(uses)
    assert total_bytes(uses) < sum(total_bytes([use]) for use in uses)


def test_many_first_requests_are_all_answered_by_one_load(
    client: TestClient, image_file: bytes
) -> None:
    with ThreadPoolExecutor(20) as pool:
        models = [OTHER, None] * 10
        answers = list(
            pool.map(
                lambda model: post(client, image_file, params={"model": model} if model else {}),
                models,
            )
        )
    assert [answer.json()["model"]["name"] for answer in answers] == [
        model or DEFAULT for model in models
    ]
    assert metric(client, f'glimpse_model_loads_total{{name="{OTHER}",outcome="loaded"}}') == 1


def test_model_with_damaged_description_is_listed_with_its_problem(
    client: TestClient, weights: Path, image_file: bytes
) -> None:
    (weights / OTHER / "metrics.json").write_text("[]", encoding="utf-8")

    damaged = listed(client)[OTHER]
    assert damaged["problem"]
    assert (damaged["loaded"], damaged["metrics"]) == (False, None)
    assert client.get(f"/models/{OTHER}").json() == damaged
    refused = post(client, image_file, params={"model": OTHER})
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/model-unavailable")
    assert str(weights) not in refused.text + str(damaged)
    assert post(client, image_file).status_code == 200


@pytest.mark.parametrize("file", [f"{OTHER}/model.safetensors", "shared/encoder.safetensors"])
def test_model_with_damaged_weights_is_refused_and_answers_once_they_are_mended(
    weights: Path, image_file: bytes, serve: Callable[..., Any], file: str
) -> None:
    save_tiny_bundle(weights / "plain")  # leans on no shared file
    whole = (weights / file).read_bytes()
    with serve(captioner="real", weights_folder=weights, model="plain") as client:
        (weights / file).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        refused = post(client, image_file, params={"model": OTHER})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/model-unavailable")
        assert "retry-after" not in refused.headers
        assert str(weights) not in refused.text
        assert post(client, image_file).json()["model"]["name"] == "plain"
        (weights / file).write_bytes(whole)
        assert post(client, image_file, params={"model": OTHER}).json()["model"]["name"] == OTHER


def test_model_without_memory_for_it_is_refused(
    weights: Path, image_file: bytes, serve: Callable[..., Any]
) -> None:
    with serve(
        captioner="real", weights_folder=weights, model=DEFAULT, models_memory_bytes=0
    ) as client:
        refused = post(client, image_file, params={"model": OTHER})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/model-unavailable")
        assert "Choose another model" in refused.json()["detail"]
        assert "retry-after" not in refused.headers
        assert post(client, image_file).status_code == 200
        assert listed(client)[OTHER]["loaded"] is False


def test_unknown_model_is_refused_with_the_names_of_all(
    client: TestClient, image_file: bytes
) -> None:
    for name in ("third", "shared", "../first"):
        refused = post(client, image_file, params={"model": name})
        assert (refused.status_code, refused.json()["type"]) == (404, "/problems/unknown-model")
        assert f"Models: {DEFAULT}, {OTHER}" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("in_address", "in_form", "looked_up"),
    [
        (None, None, [None]),
        (OTHER, None, [OTHER]),
        (OTHER, OTHER, [OTHER]),
        (None, DEFAULT, [None]),
        (None, OTHER, [None, OTHER]),
    ],
)
def test_model_is_looked_up_once_and_again_only_where_the_form_names_another(
    client: TestClient,
    image_file: bytes,
    monkeypatch: pytest.MonkeyPatch,
    in_address: str | None,
    in_form: str | None,
    looked_up: list[str | None],
) -> None:
    asked: list[str | None] = []
    find = CaptionEngine.model

    async def watched(engine: CaptionEngine, name: str | None, **limits: float) -> ModelHandle:
        asked.append(name)
        return await find(engine, name, **limits)

    monkeypatch.setattr(CaptionEngine, "model", watched)
    params = {"model": in_address} if in_address else {}
    data = {"model": in_form} if in_form else {}
    answer = post(client, image_file, params=params, data=data)
    assert answer.json()["model"]["name"] == (in_form or in_address or DEFAULT)
    assert asked == looked_up


def test_unknown_model_in_the_address_is_refused_before_the_upload_is_read(
    client: TestClient,
) -> None:
    broken = {"content-type": "multipart/form-data", "content-length": "7"}
    for params, problem in (({}, "malformed-form"), ({"model": "third"}, "unknown-model")):
        refused = client.post("/caption", params=params, content=b"no form", headers=broken)
        assert refused.json()["type"] == f"/problems/{problem}"
