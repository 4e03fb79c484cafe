"""Fitting confidences: isotonic regression, forms chosen on held-out images, what is written into a
bundle."""

import itertools
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from evaluation.captioning import CachedEncoder, image_encoder
from evaluation.measures.calibration import calibrate, save_calibration
from evaluation.measures.calibration_forms import FORMS, compare_forms, pool_adjacent_violators
from evaluation.measures.reliability import calibration_error, draw_curves, measure, reliability
from evaluation.measures.usage import CaptionUsage, caption_with_usage
from evaluation.report.calibration_text import describe_calibration
from models.bundles.checkpoint import load_checkpoint
from models.calibration import CalibrationConfig, word_confidence
from models.captioner import NetworkCaptioner
from models.loading import load_captioner
from models.preprocessing import DecodeLimits
from tests.unit.toys import save_tiny_bundle
from training.cli import app
from training.data.datasets import CaptionedImage, DataError

SMALL = st.integers(0, 8).map(lambda number: number / 8)
# What "a", "dog" and "tower" are worth: their own shift of the logit, as a person's words and a
# model's differ.
TRUTH = CalibrationConfig(slope=0.5, offset=-0.3, words={"a": 2.0, "dog": 1.0, "tower": -1.5})


def _usages(examples: int, seed: int, references: int = 5) -> list[CaptionUsage]:
    """Captions of a model that is surer than it should be, and people who use words as TRUTH
    says."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(examples):
        words = tuple(generator.choice(["a", "dog", "tower", "runs", "zebra"], size=6).tolist())
        probabilities = tuple(generator.uniform(0.05, 0.99, size=6).tolist())
        usage = tuple(
            float(
                generator.binomial(references, word_confidence(TRUTH, word, probability))
                / references
            )
            for word, probability in zip(words, probabilities, strict=True)
        )
        found.append(
            CaptionUsage(words, probabilities, usage, float(np.exp(np.log(probabilities).mean())))
        )
    return found


def _columns(
    usages: list[CaptionUsage], calibration: CalibrationConfig
) -> tuple[np.ndarray, np.ndarray]:
    confidences = np.array([each for one in usages for each in one.confidences(calibration)])
    return confidences, np.array([each for one in usages for each in one.usage])


def _brute_force(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The best of all ways to cut the sequence into runs whose means do not fall."""
    best = values
    best_loss = np.inf
    for cuts in itertools.product([False, True], repeat=len(values) - 1):
        runs = np.cumsum([0, *cuts])
        sums = np.bincount(runs, weights * values)
        totals = np.bincount(runs, weights)
        means = sums / totals
        fitted = means[runs]
        loss = float((weights * (values - fitted) ** 2).sum())
        if (np.diff(means) >= 0).all() and loss < best_loss:
            best = fitted
            best_loss = loss
    return best


@given(st.lists(st.tuples(SMALL, st.integers(1, 5)), min_size=1, max_size=7))
def test_pool_adjacent_violators_equals_the_best_of_all_monotone_fits(
    pairs: list[tuple[float, int]],
) -> None:
    values, weights = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))

    np.testing.assert_allclose(
        pool_adjacent_violators(values, weights), _brute_force(values, weights), atol=1e-9
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 9)), min_size=1, max_size=60))
def test_pool_adjacent_violators_never_falls_and_keeps_the_mean(
    pairs: list[tuple[float, float]],
) -> None:
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))

    fitted = pool_adjacent_violators(values, weights)

    assert (np.diff(fitted) >= 0).all()
    assert (weights * fitted).sum() == pytest.approx((weights * values).sum())
    np.testing.assert_allclose(pool_adjacent_violators(fitted, weights), fitted, atol=1e-12)


@pytest.mark.parametrize("form", [name for name in FORMS if name.endswith("isotonic")])
def test_isotonic_form_on_what_it_was_fitted_to_has_hardly_any_calibration_error(form: str) -> None:
    usages = _usages(400, seed=0)

    confidences, usage = _columns(usages, FORMS[form](usages))

    assert calibration_error(reliability(confidences, usage)) < 0.01
    assert calibration_error(reliability(*_columns(usages, CalibrationConfig()))) > 0.05


@pytest.mark.parametrize("form", FORMS)
def test_form_fitted_to_degenerate_images_is_a_valid_calibration(form: str) -> None:
    never = [CaptionUsage(("dog",) * 6, (1.0, 0.5, 0.5, 0.5, 0.5, 0.0), (0.0,) * 6, 0.1)] * 6
    backwards = [CaptionUsage(("dog",) * 2, (0.9, 0.1), (0.0, 1.0), 0.3)] * 8

    for usages in (never, backwards):
        calibration = FORMS[form](usages)
        assert CalibrationConfig.model_validate(calibration.model_dump()) == calibration
        assert 0 <= word_confidence(calibration, "dog", 0.5) <= 1


def test_words_form_with_many_images_finds_the_truth() -> None:
    calibration = FORMS["words"](_usages(4000, seed=1))

    for word, probability in itertools.product(("a", "dog", "tower", "runs"), (0.1, 0.5, 0.9)):
        expected = word_confidence(TRUTH, word, probability)
        assert word_confidence(calibration, word, probability) == pytest.approx(expected, abs=0.03)


def test_words_form_leaves_a_rare_word_to_the_common_offset() -> None:
    rare = [CaptionUsage(("yak",), (0.5,), (1.0,), 0.5)] * 4

    assert "yak" not in FORMS["words"]([*_usages(50, seed=2), *rare]).words
    assert "yak" in FORMS["words"]([*_usages(50, seed=2), *rare, rare[0]]).words


def test_temperature_form_of_an_oversure_model_is_above_one() -> None:
    usages = _usages(300, seed=3)

    calibration = FORMS["temperature"](usages)

    assert 0 < calibration.slope < 1
    assert (calibration.offset, calibration.words, calibration.knots) == (0.0, {}, ())


def test_compare_forms_words_that_differ_favor_the_form_that_knows_them() -> None:
    forms = compare_forms(_usages(300, seed=4))

    assert list(forms) == list(FORMS)
    assert (
        forms["words"]["log-loss"] < forms["isotonic"]["log-loss"] < forms["as it is"]["log-loss"]
    )


def test_compare_forms_twice_gives_the_same() -> None:
    assert compare_forms(_usages(60, seed=5)) == compare_forms(_usages(60, seed=5))


def test_calibrate_measures_on_images_it_was_not_fitted_to() -> None:
    dev = _usages(300, seed=6)
    other = _usages(100, seed=7)
    test = _usages(200, seed=8)

    result = calibrate({"one dev": dev, "two": other}, {"one test": test})

    assert result.metrics["form"].startswith("words")
    assert result.metrics["fitted"] == {"one dev": 300, "two": 100}
    measured = result.metrics["sets"]["one test"]
    assert measured["photos"] == 200
    assert measured["words"]["count"] == 1200
    assert measured["captions"]["count"] == 200
    assert measured["content words"]["count"] == sum(
        word != "a" for each in test for word in each.words
    )
    assert measured["words"]["before"] == measure(*_columns(test, CalibrationConfig()))
    for kind in ("words", "content words", "captions"):
        assert measured[kind]["after"]["ECE"] < measured[kind]["before"]["ECE"]
        assert measured[kind]["after"]["Brier"] < measured[kind]["before"]["Brier"]
    assert json.loads(json.dumps(result.metrics)) == result.metrics
    again = calibrate({"one dev": dev, "two": other}, {"one test": _usages(50, seed=9)})
    assert again.calibration == result.calibration  # test chooses nothing


def test_describe_names_every_set_and_error() -> None:
    metrics = calibrate({"dev": _usages(60, seed=10)}, {"test": _usages(60, seed=11)}).metrics

    text = describe_calibration(metrics)

    for kind in ("words", "content words", "captions"):
        row = metrics["sets"]["test"][kind]
        assert (
            f"| test | {kind} | {row['count']} | {row['before']['ECE']:.3f} | "
            f"{row['after']['ECE']:.3f} |" in text
        )
    assert "reliability.svg" in text


def test_reliability_bins_are_of_equal_count_in_order_and_keep_the_means() -> None:
    generator = np.random.default_rng(0)
    confidences = generator.uniform(size=100)
    fractions = generator.uniform(size=100)

    bins = reliability(confidences, fractions, 15)

    assert {each.size for each in bins} == {6, 7}
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)
    assert sum(each.size * each.confidence for each in bins) == pytest.approx(confidences.sum())
    assert sum(each.size * each.fraction for each in bins) == pytest.approx(fractions.sum())


def test_calibration_error_of_a_constant_is_its_distance_from_the_mean() -> None:
    fractions = np.array([0.0, 0.2, 0.4, 1.0])

    assert calibration_error(reliability(np.full(4, 0.7), fractions, 1)) == pytest.approx(0.3)
    assert calibration_error(reliability(fractions, fractions)) == 0
    assert measure(fractions, fractions)["Brier"] == 0


def test_draw_curves_gives_small_svg_with_labeled_axes() -> None:
    bins = reliability(np.linspace(0, 1, 900), np.linspace(0, 1, 900) ** 2)

    drawn = draw_curves({title: {"before": bins, "after": bins} for title in ("words", "captions")})

    texts = [element.text for element in ElementTree.fromstring(drawn).iter() if element.text]
    assert len(drawn) < 20_000
    assert {"words", "captions", "confidence", "observed share", "0", "0.5", "1"} <= set(texts)
    assert sum("ECE" in text for text in texts) == 4


@pytest.fixture
def captioner(tmp_path: Path) -> NetworkCaptioner:
    save_tiny_bundle(tmp_path / "weights" / "tiny")
    return load_captioner(tmp_path / "weights", "tiny", precision="float32")


def _examples(folder: Path, count: int) -> list[CaptionedImage]:
    generator = np.random.default_rng(0)
    examples = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(path)
        examples.append(
            CaptionedImage(
                path.name, path, ("A dog, on grass.", "The dogs sit!", "A red dog", "cat")
            )
        )
    return examples


def test_caption_with_usage_gives_what_the_service_says_and_the_share_of_people_who_say_it(
    captioner: NetworkCaptioner, tmp_path: Path
) -> None:
    examples = _examples(tmp_path, 18)
    progress: list[int] = []

    usages = caption_with_usage(captioner, examples, progress.append, image_encoder(captioner))

    assert progress == [16, 2]
    share = {
        "a": 0.5,
        "dog": 0.5,
        "on": 0.25,
        "grass": 0.25,
        "red": 0.25,
        "cat": 0.25,
        "runs": 0.0,
        "sits": 0.0,
    }
    for example, each in zip(examples, usages, strict=True):
        assert example.path is not None
        image = captioner.prepare(example.path.read_bytes(), DecodeLimits())
        best = captioner.caption([image], captioner.info.config.decoding)[0].hypotheses[0]
        assert each.words == tuple(word.text for word in best.words)
        assert each.probabilities == pytest.approx(
            [word.probability for word in best.words], abs=1e-5
        )
        assert each.geometric_mean == pytest.approx(best.confidence, abs=1e-5)
        assert each.usage == tuple(share[word] for word in each.words)


def test_caption_with_usage_with_annotations_at_hand_reads_no_image(
    captioner: NetworkCaptioner, tmp_path: Path
) -> None:
    examples = _examples(tmp_path, 3)
    with_images = caption_with_usage(captioner, examples, lambda _: None, image_encoder(captioner))
    prepared = [
        captioner.prepare((tmp_path / example.key).read_bytes(), DecodeLimits())
        for example in examples
    ]
    known = captioner.encode(prepared)
    gone = [CaptionedImage(example.key, None, example.captions) for example in examples]

    assert (
        caption_with_usage(captioner, gone, lambda _: None, lambda batch: known[: len(batch)])
        == with_images
    )


def test_caption_with_usage_image_that_cannot_be_read_is_named(
    captioner: NetworkCaptioner, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")

    for example in (
        CaptionedImage("broken.jpg", broken, ("a dog",)),
        CaptionedImage("broken.jpg", None, ("a dog",)),
    ):
        with pytest.raises(DataError, match="broken") as raised:
            caption_with_usage(captioner, [example], lambda _: None, image_encoder(captioner))
        assert "max_unreadable" not in str(raised.value)  # nothing that measures has such a setting


def test_remembered_images_with_equal_keys_in_two_sets_are_told_apart(
    captioner: NetworkCaptioner, tmp_path: Path
) -> None:
    first, second = _examples(tmp_path, 2)
    renamed = CaptionedImage(first.key, second.path, second.captions)
    recall = CachedEncoder(image_encoder(captioner))

    asked = ([first], [renamed], [first])
    recalled = torch.cat([recall(each).annotations for each in asked])

    expected = image_encoder(captioner)([first, second, first]).annotations
    torch.testing.assert_close(recalled, expected, atol=1e-4, rtol=2e-3)  # half precision
    assert not torch.equal(recalled[0], recalled[1])


def test_save_calibration_keeps_all_else_of_a_verified_bundle(
    captioner: NetworkCaptioner, tmp_path: Path
) -> None:
    folder = tmp_path / "weights" / "tiny"
    before = load_checkpoint(folder)
    result = calibrate({"dev": _usages(60, seed=12)}, {"test": _usages(60, seed=13)})

    save_calibration(folder, captioner.info, result)

    after = load_checkpoint(folder)
    assert after.config == before.config.model_copy(update={"calibration": result.calibration})
    assert after.metrics == {**before.metrics, "calibration": result.metrics}
    assert after.digest == before.digest
    assert (folder / "reliability.svg").read_text(encoding="utf-8") == result.curve


@pytest.mark.parametrize("writes", range(4))
def test_save_calibration_killed_while_it_writes_leaves_the_bundle_as_it_was(
    captioner: NetworkCaptioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """The files are config.json, the curve, metrics.json and the sums: it is killed as it writes
    one of them."""
    folder = tmp_path / "weights" / "tiny"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = calibrate({"dev": _usages(60, seed=12)}, {"test": _usages(60, seed=13)})
    write_text, left = Path.write_text, list(range(writes))

    def killed(self: Path, *arguments: str, **options: str) -> int:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return write_text(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        save_calibration(folder, captioner.info, result)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    load_checkpoint(folder)


def test_calibrate_command_writes_what_the_next_captions_use(
    captioner: NetworkCaptioner, tmp_path: Path
) -> None:
    lines = [
        json.dumps({"file": example.key, "captions": example.captions})
        for example in _examples(tmp_path, 12)
    ]
    for split in ("dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sets = "".join(
        f'[[{group}]]\nname = "toys"\nkind = "jsonl"\nroot = "."\nsplit = "{split}"\n'
        for group, split in (("train", "dev"), ("dev", "dev"), ("test", "test"))
    )
    experiment = tmp_path / "toys.toml"
    experiment.write_text(
        f'name = "toys"\n{sets}[[stages]]\nkind = "frozen"\nepochs = 1\n', encoding="utf-8"
    )
    folders = ["--data-folder", str(tmp_path), "--weights-folder", str(tmp_path / "weights")]

    result = CliRunner().invoke(app, ["calibrate", str(experiment), "--models", " tiny", *folders])

    assert result.exit_code == 0, result.output
    assert "| toys test | captions | 12 |" in result.output
    info = load_captioner(tmp_path / "weights", "tiny").info
    assert info.config.calibration is not None
    assert info.metrics["calibration"]["fitted"] == {"toys dev": 12}
    assert info.metrics["cider_d"] == captioner.info.metrics["cider_d"]
