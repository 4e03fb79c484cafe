"""How surely an image is a photo: fitted, measured, and what it does to confidences."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.measures.no_photos import draw_no_photos
from evaluation.measures.photo_probe import fit_photo_probe, measure_photo_probe
from evaluation.measures.reliability import Values
from models.bundles.checkpoint import Checkpoint, load_checkpoint
from models.calibration import CalibrationConfig, PhotoProbe, word_confidence
from models.config import DecodingOptions
from models.errors import CheckpointError
from models.loading import build_captioner
from tests.unit.toys import save_tiny_bundle

OPTIONS = DecodingOptions(beam_size=2, max_length=4)


def clouds() -> tuple[Values, Values]:
    """Means of 200 photos and 100 other pictures, apart in two of five features."""
    generator = np.random.default_rng(0)
    photos = generator.normal([5, 0, 1, 100, 0], [1, 1, 1, 30, 0.01], (200, 5))
    others = generator.normal([1, 0, 1, 10, 0], [1, 1, 1, 30, 0.01], (100, 5))
    return photos, others


def test_probe_tells_photos_from_other_pictures_it_was_not_fitted_to() -> None:
    photos, others = clouds()
    measured = measure_photo_probe(photos, others)
    assert (measured["photos"], measured["others"]) == (200, 100)
    assert measured["mean of photos"] > 0.95
    assert measured["mean of others"] < 0.1


def test_probe_of_pictures_that_are_alike_is_sure_of_nothing() -> None:
    generator = np.random.default_rng(1)
    same = generator.normal(size=(200, 5))
    measured = measure_photo_probe(same[:100], same[100:])
    assert measured["mean of photos"] == pytest.approx(0.5, abs=0.1)
    assert measured["mean of others"] == pytest.approx(0.5, abs=0.1)


def test_probe_is_a_logistic_regression_of_the_mean() -> None:
    probe = PhotoProbe(weights=(2.0, -1.0), bias=0.5)
    assert probe.probability(np.array([1.0, 3.0])) == pytest.approx(1 / (1 + np.exp(0.5)))
    with pytest.raises(ValueError, match="shapes"):
        probe.probability(np.ones(3))


def test_drawn_pictures_are_the_same_for_a_seed_and_all_different() -> None:
    first, again, other = (draw_no_photos(21, seed) for seed in (3, 3, 4))
    drawn = [picture.tobytes() for picture in first]
    assert drawn == [picture.tobytes() for picture in again]
    assert len(set(drawn)) == 21
    assert set(drawn).isdisjoint(picture.tobytes() for picture in other)
    assert {picture.mode for picture in first} == {"RGB"}


def probed(folder: Path, probe: PhotoProbe | None) -> Checkpoint:
    """A bundle with that probe in its calibration."""
    calibration = CalibrationConfig(slope=0.7, photo=probe)
    return load_checkpoint(save_tiny_bundle(folder / "probed", calibration=calibration))


def test_confidences_are_multiplied_with_the_probability_of_each_image(tmp_path: Path) -> None:
    plain = build_captioner(probed(tmp_path / "plain", None), precision="float32")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (2, 3, 56, 56), generator=generator).to(torch.uint8)
    features = plain.encode_pixels(pixels)
    means = features.means
    weights = np.sign(means[0] - means[1])  # surer of the first
    probe = PhotoProbe(weights=tuple(weights.tolist()), bias=-float(weights @ means.mean(axis=0)))
    captioner = build_captioner(probed(tmp_path / "with", probe), precision="float32")

    before = plain.caption_features(features, OPTIONS)
    after = captioner.caption_features(features, OPTIONS)

    photos = [probe.probability(mean) for mean in means]
    assert photos[0] > photos[1] + 0.1
    for one, other, photo in zip(before, after, photos, strict=True):
        assert other.best.text == one.best.text
        assert other.best.confidence == pytest.approx(photo * one.best.confidence)
        for word, scaled in zip(one.best.words, other.best.words, strict=True):
            assert scaled.confidence == pytest.approx(photo * word.confidence)
            assert word.confidence == pytest.approx(
                word_confidence(CalibrationConfig(slope=0.7), word.text, word.probability)
            )


def test_probe_of_other_features_is_refused_with_the_file_that_has_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config.json: calibration.photo has 2 weights"):
        probed(tmp_path, PhotoProbe(weights=(1.0, 2.0), bias=0.0))


def test_calibration_without_a_probe_is_written_as_before_there_were_any() -> None:
    assert "photo" not in CalibrationConfig().model_dump()
    photos, others = clouds()
    with_probe = CalibrationConfig(photo=fit_photo_probe(photos, others))
    assert CalibrationConfig.model_validate(with_probe.model_dump()) == with_probe
