"""The JSON half of a checkpoint: what is refused, and that it comes back as it was written."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.config import DecodingOptions, ModelConfig, PreprocessConfig
from tests.unit.toys import tiny_config


def test_model_config_as_json_comes_back_equal() -> None:
    config = tiny_config(decoding=DecodingOptions(beam_size=3, length_penalty=0.7))

    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_config_values_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(tiny_config(), "name", "other")  # noqa: B010 - an assignment is a type error


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
        {"heads": 0},
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
