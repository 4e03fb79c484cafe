"""Confidences as they are served: a monotone map of the model's own probabilities, and the share of
a caption."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from models.calibration import (
    FUNCTION_WORDS,
    CalibrationConfig,
    caption_confidence,
    logit,
    word_confidence,
)
from models.caption import Caption
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions, ModelConfig
from models.loading import load_captioner
from models.preprocessing import DecodeLimits
from models.tokenizer import tokenize
from tests.unit.toys import save_tiny_bundle

FRACTIONS = st.floats(0, 1)
WORDS = st.sampled_from(["a", "dog", "zebra"])
CALIBRATION = CalibrationConfig(slope=0.4, offset=-0.9, words={"a": 2.5, "dog": 1.6})


@st.composite
def calibrations(draw: st.DrawFn) -> CalibrationConfig:
    scores = sorted(draw(st.sets(FRACTIONS, max_size=32)))
    confidences = sorted(draw(st.lists(FRACTIONS, min_size=len(scores), max_size=len(scores))))
    return CalibrationConfig(
        slope=draw(st.floats(0, 10)),
        offset=draw(st.floats(-1e3, 1e3)),
        words=draw(st.dictionaries(WORDS, st.floats(-1e3, 1e3))),
        knots=tuple(zip(scores, confidences, strict=True)),
    )


@given(calibrations(), WORDS, FRACTIONS, FRACTIONS)
def test_word_confidence_any_calibration_is_monotone_and_between_0_and_1(
    calibration: CalibrationConfig, word: str, one: float, other: float
) -> None:
    low, high = (
        word_confidence(calibration, word, probability) for probability in sorted([one, other])
    )

    assert 0 <= low <= high + 1e-12
    assert high <= 1


@given(FRACTIONS)
def test_word_confidence_of_the_default_is_the_probability(probability: float) -> None:
    assert word_confidence(CalibrationConfig(), "dog", probability) == pytest.approx(
        probability, abs=2e-6
    )


@given(FRACTIONS)
def test_logit_of_a_probability_is_finite_and_odd(probability: float) -> None:
    assert math.isfinite(logit(probability))
    assert logit(1 - probability) == pytest.approx(-logit(probability), abs=1e-6)


def test_word_confidence_of_a_listed_word_is_moved_by_its_offset() -> None:
    listed, other = (word_confidence(CALIBRATION, word, 0.5) for word in ("dog", "zebra"))

    assert listed == pytest.approx(1 / (1 + math.exp(0.9 - 1.6)))
    assert other == pytest.approx(1 / (1 + math.exp(0.9)))


def test_word_confidence_with_knots_is_linear_between_them_and_constant_beyond() -> None:
    calibration = CalibrationConfig(knots=((0.2, 0.1), (0.4, 0.3), (0.8, 0.3)))

    found = [
        word_confidence(calibration, "dog", probability)
        for probability in (0.0, 0.2, 0.3, 0.4, 0.6, 1.0)
    ]

    assert found == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.3, 0.3])


@pytest.mark.parametrize(
    "fields",
    [
        {"knots": ((0.5, 0.1), (0.4, 0.2))},
        {"knots": ((0.4, 0.1), (0.4, 0.2))},
        {"knots": ((0.4, 0.2), (0.5, 0.1))},
        {"knots": ((0.4, 1.2),)},
        {"knots": tuple((number / 33, 0.5) for number in range(33))},
        {"slope": -0.1},
        {"slope": math.inf},
        {"offset": math.nan},
        {"words": {"dog": math.inf}},
        {"temperature": 1.0},
    ],
)
def test_calibration_config_that_is_no_monotone_map_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CalibrationConfig.model_validate(fields)


def test_calibration_config_through_json_stays_the_same() -> None:
    calibration = CALIBRATION.model_copy(update={"knots": ((0.1, 0.2), (0.3, 0.4))})

    assert CalibrationConfig.model_validate_json(calibration.model_dump_json()) == calibration


def test_caption_confidence_is_the_mean_over_content_words() -> None:
    assert caption_confidence(
        [("a", 0.9), ("dog", 0.7), ("in", 0.5), ("grass", 0.2)]
    ) == pytest.approx(0.45)
    # There is nothing else to decide by.
    assert caption_confidence([("a", 0.9), ("the", 0.5)]) == pytest.approx(0.7)
    assert caption_confidence([]) == 0.0


@given(st.lists(st.tuples(st.sampled_from(["a", "dog", "grass", "in"]), FRACTIONS), min_size=1))
def test_caption_confidence_lies_between_those_of_its_words(words: list[tuple[str, float]]) -> None:
    confidences = [confidence for _, confidence in words]

    assert min(confidences) - 1e-9 <= caption_confidence(words) <= max(confidences) + 1e-9


def test_function_words_are_tokens_as_the_model_writes_them() -> None:
    assert all(tokenize(word) == [word] for word in FUNCTION_WORDS)
    assert not FUNCTION_WORDS & {"dog", "red", "running", "two", "man"}


def _captions(captioner: NetworkCaptioner) -> list[Caption]:
    generator = np.random.default_rng(0)
    images = []
    for _ in range(2):
        file = BytesIO()
        Image.fromarray(generator.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(file, "PNG")
        images.append(captioner.prepare(file.getvalue(), DecodeLimits()))
    return captioner.caption(images, DecodingOptions(beam_size=4, num_captions=3))


def _captioner(folder: Path, calibration: CalibrationConfig | None) -> NetworkCaptioner:
    save_tiny_bundle(folder / "tiny", calibration=calibration)
    return load_captioner(folder, "tiny", precision="float32")


def test_bundle_with_calibration_answers_with_it_and_keeps_its_probabilities(
    tmp_path: Path,
) -> None:
    raw = _captions(_captioner(tmp_path / "raw", None))
    calibrated = _captions(_captioner(tmp_path / "calibrated", CALIBRATION))

    for before, after in zip(raw, calibrated, strict=True):
        for one, other in zip(before.hypotheses, after.hypotheses, strict=True):
            assert other.text == one.text
            assert other.logprob == one.logprob
            for word, twin in zip(one.words, other.words, strict=True):
                assert twin.probability == word.probability
                assert twin.confidence == word_confidence(CALIBRATION, word.text, word.probability)
            assert other.confidence == caption_confidence(
                (word.text, word.confidence) for word in other.words
            )


def test_bundle_without_calibration_falls_back_to_raw_values(tmp_path: Path) -> None:
    captioner = _captioner(tmp_path, None)

    assert captioner.info.config.calibration is None
    for caption in _captions(captioner):
        for hypothesis in caption.hypotheses:
            assert all(word.calibrated is None for word in hypothesis.words)
            assert [word.confidence for word in hypothesis.words] == [
                word.probability for word in hypothesis.words
            ]
            tokens = len(hypothesis.words) + 1
            assert hypothesis.confidence == pytest.approx(
                math.exp(hypothesis.logprob / tokens), abs=1e-6
            )


def test_model_config_written_before_calibrations_is_read_without_one(tmp_path: Path) -> None:
    config = _captioner(tmp_path, CALIBRATION).info.config
    old = ModelConfig.model_validate(config.model_dump(exclude={"calibration"}))

    assert old.calibration is None
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
