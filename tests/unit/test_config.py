"""The JSON half of a checkpoint: what is refused, and that it comes back as it was written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from models.config import DecodingOptions, ModelConfig, PreprocessConfig, migrate_config
from models.decoders.config import DECODER_KINDS, AttentionConfig, MapKind, NICConfig
from tests.unit.toys import tiny_config

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "weights").glob("*/config.json"))


def test_model_config_as_json_comes_back_equal() -> None:
    config = tiny_config(decoding=DecodingOptions(beam_size=3, length_penalty=0.7))

    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_config_values_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        tiny_config().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Soft Attention"},
        {"name": "../up"},
        {"name": ""},
        {"name": "-dash"},
        {"name": "a" * 65},
        {"attention": "sideways"},
        {"decoder": "brain"},
        {"decoder": "transformer", "heads": 0},
        {"decoder": {"kind": "nic", "heads": 8}},
        {"vocab_size": 4},
        {"decoder_dim": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"color": "red"},
        {"preprocess": {"size_pixels": 8, "mean": [0, 0, 0], "std": [1, 1, 1]}},
        {"decoding": {"beam_size": 5, "temperature": 1.0}},
    ],
)
def test_model_config_wrong_value_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        tiny_config(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"size_pixels": 15},
        {"size_pixels": 1025},
        {"mean": (0.0, 0.0)},
        {"std": (1.0, 1.0, 0.0)},
        {"std": (1.0, -1.0, 1.0)},
        {"mean": (0.0, 0.0, float("nan"))},
        {"resample": "nearest"},
        {"crop": True},
    ],
)
def test_preprocess_config_wrong_value_is_refused(fields: dict[str, Any]) -> None:
    right: dict[str, Any] = {"size_pixels": 251, "mean": (127.5,) * 3, "std": (127.5,) * 3}
    PreprocessConfig(**right)

    with pytest.raises(ValidationError):
        PreprocessConfig(**(right | fields))


@pytest.mark.parametrize("field", ["beam_size", "num_captions", "max_length", "length_penalty"])
def test_decoding_options_every_field_is_bounded(field: str) -> None:
    low, high = DecodingOptions.model_fields[field].metadata
    assert DecodingOptions(**{field: low.ge})
    assert DecodingOptions(**{field: high.le})
    for wrong in (low.ge - 1, high.le + 1):
        with pytest.raises(ValidationError):
            DecodingOptions(**{field: wrong})


FLAT: dict[str, Any] = {
    "name": "old",
    "encoder": "inception_v3",
    "attention": "additive",
    "vocab_size": 7517,
    "embed_dim": 320,
    "decoder_dim": 500,
    "attention_dim": 128,
    "layers": 3,
    "heads": 8,
    "dropout": 0.3,
    "preprocess": {
        "size_pixels": 251,
        "mean": [127.5] * 3,
        "std": [127.5] * 3,
        "resample": "bicubic",
    },
    "decoding": DecodingOptions(length_penalty=0.7).model_dump(),
}
VECTOR_FIELDS = {"embed_dim": 320, "decoder_dim": 500, "dropout": 0.3}


@pytest.mark.parametrize(
    ("chosen", "decoder"),
    [
        (
            {"decoder": "attention"},
            VECTOR_FIELDS | {"attention": "additive", "attention_dim": 128, "tags": False},
        ),
        (
            {"decoder": "attention", "attention": "hard"},
            VECTOR_FIELDS | {"attention": "hard", "attention_dim": 128, "tags": False},
        ),
        ({"decoder": "nic"}, VECTOR_FIELDS),
        ({"decoder": "lrcn-factored"}, VECTOR_FIELDS),
        ({"decoder": "lrcn-unfactored"}, VECTOR_FIELDS),
        ({"decoder": "transformer"}, VECTOR_FIELDS | {"layers": 3, "heads": 8}),
    ],
)
def test_migrate_config_flat_document_keeps_what_its_decoder_reads(
    chosen: dict[str, Any], decoder: dict[str, Any]
) -> None:
    document = FLAT | chosen

    config = ModelConfig.model_validate(migrate_config(document))

    assert config.decoder.model_dump() == decoder | {"kind": document["decoder"]}
    assert config.describe() == document
    assert list(config.describe()) == [*list(FLAT)[:2], "decoder", *list(FLAT)[2:]]


def test_migrate_config_flat_document_without_decoder_attends() -> None:
    config = ModelConfig.model_validate(migrate_config(FLAT))

    assert config.decoder == AttentionConfig(decoder_dim=500, attention_dim=128, dropout=0.3)


def test_migrate_config_present_document_stays_as_it_is() -> None:
    document = tiny_config(decoder="nic").model_dump(mode="json")

    assert migrate_config(document) == document


@pytest.mark.parametrize("path", SHIPPED, ids=[path.parent.name for path in SHIPPED])
def test_migrate_config_shipped_document_keeps_all_that_it_says(path: Path) -> None:
    """An older one is described in its own form; a present one reads as it is written."""
    document = json.loads(path.read_text(encoding="utf-8"))
    is_present = isinstance(document["decoder"], dict)

    config = ModelConfig.model_validate(migrate_config(document))

    said = config.model_dump(mode="json") if is_present else config.describe()
    left_out = () if is_present else ("calibration",)
    assert said == {name: value for name, value in document.items() if name not in left_out}


class NewConfig(NICConfig):
    """A decoder that is added later, with a field of its own."""

    slots: int = 4


def test_describe_shows_the_fields_of_a_new_decoder_behind_the_known_ones() -> None:
    known = tiny_config(decoder="nic")
    config = known.model_copy(update={"decoder": NewConfig.model_validate(dict(known.decoder))})

    assert config.describe() == known.describe() | {"slots": 4}
    assert list(config.describe()) == [*known.describe(), "slots"]


@pytest.mark.parametrize("kind", DECODER_KINDS)
@torch.no_grad()
def test_decoder_config_says_whether_its_decoder_has_a_gate_and_uniform_maps(kind: str) -> None:
    config = tiny_config(decoder=kind, heads=2).decoder
    decoder = config.build(12, 7).eval()
    annotations = 3 * torch.randn(5, 9, 7, generator=torch.Generator().manual_seed(0))

    output = decoder.step(torch.arange(5), decoder.init_state(annotations))

    assert config.has_gate == (len(set(output.beta.tolist())) > 1)
    is_uniform = bool(torch.allclose(output.alpha, torch.tensor(1 / 9)))
    assert (config.maps is MapKind.UNIFORM) == is_uniform


def test_attention_config_hard_attention_has_hard_maps() -> None:
    assert AttentionConfig(attention="hard").maps is MapKind.HARD
    assert AttentionConfig(attention="cosine").maps is MapKind.SOFT


def test_configuration_and_captions_are_imported_without_torch() -> None:
    script = (
        "import sys, models.caption, models.config, models.decoders.config, models.errors; "
        "assert 'torch' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
