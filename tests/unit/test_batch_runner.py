"""The batch runner: any mix of jobs gives each job its own answer, in order; a poisoned image fails
alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.metrics import Metrics
from app.engine.batch_runner import BatchRunner, CaptionJob
from models.caption import Caption, Hypothesis, ModelInfo, RuntimeInfo
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions, ModelConfig, PreprocessConfig
from models.geometry import CellGrid
from models.loading import load_captioner
from models.preprocessing import DecodeLimits, PreparedImage
from tests.unit.toys import save_tiny_bundle

OPTIONS = [DecodingOptions(beam_size=size) for size in (1, 2)]
POISON = 255


class Naming:
    """Captions an image by the captioner's name, the image's value and the beam size; fails
    whenever a poisoned image is in the batch."""

    def __init__(self, name: str) -> None:
        self.passes: list[list[int]] = []
        preprocess = PreprocessConfig(size_pixels=16, mean=(0.0,) * 3, std=(1.0,) * 3)
        config = ModelConfig(name=name, encoder="toy", vocab_size=5, preprocess=preprocess)
        self.info = ModelInfo(name=name, digest="", config=config, parameters=0, metrics={})

    @property
    def runtime(self) -> RuntimeInfo:
        raise NotImplementedError

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        raise NotImplementedError

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        values = [value_of(image) for image in images]
        self.passes.append(values)
        if POISON in values:
            raise ValueError(f"poisoned among {len(images)}")
        return [caption_of(self.info.name, value, options) for value in values]


class Miscounting(Naming):
    """Gives one caption too many."""

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        captions = super().caption(images, options)
        return [*captions, captions[0]]


class Counts:
    """What the runner reports."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.retries = 0
        self.failures = 0

    def batch_begins(self, size: int) -> None:
        self.sizes.append(size)

    def batch_ran(self, seconds: float) -> None:
        assert seconds >= 0.0

    def group_retried(self) -> None:
        self.retries += 1

    def item_failed(self) -> None:
        self.failures += 1


def image_of(value: int) -> PreparedImage:
    pixels = np.full((3, 1, 1), value, dtype=np.uint8)
    return PreparedImage(pixels=pixels, width=1, height=1, format="PNG")


def value_of(image: PreparedImage) -> int:
    return int(image.pixels[0, 0, 0])


def caption_of(name: str, value: int, options: DecodingOptions) -> Caption:
    text = f"{name} {value} {options.beam_size}"
    hypothesis = Hypothesis(text=text, words=(), logprob=0.0, confidence=1.0)
    return Caption((hypothesis,), CellGrid(1, 1))


values = st.integers(0, 9) | st.just(POISON)
mixes = st.lists(st.tuples(st.integers(0, 2), values, st.sampled_from(OPTIONS)), max_size=12)


@given(mixes)
def test_batch_runner_any_mix_gives_each_job_its_own_answer_in_order(
    mix: list[tuple[int, int, DecodingOptions]],
) -> None:
    captioners = [Naming(name) for name in ("a", "b", "c")]
    jobs = [CaptionJob(captioners[index], image_of(value), opts) for index, value, opts in mix]
    counts = Counts()
    results = BatchRunner(counts).run(jobs)

    assert len(results) == len(jobs)
    for (index, value, options), result in zip(mix, results, strict=True):
        if value == POISON:
            assert isinstance(result, ValueError)
            assert str(result) == "poisoned among 1"
        else:
            assert result == caption_of(captioners[index].info.name, value, options)
    assert counts.sizes == [len(jobs)]
    assert counts.failures == sum(value == POISON for _, value, _ in mix)


@given(mixes)
def test_batch_runner_runs_each_group_once_and_again_singly_only_where_it_is_poisoned(
    mix: list[tuple[int, int, DecodingOptions]],
) -> None:
    captioners = [Naming(name) for name in ("a", "b", "c")]
    jobs = [CaptionJob(captioners[index], image_of(value), opts) for index, value, opts in mix]
    counts = Counts()
    BatchRunner(counts).run(jobs)

    retries = 0
    for index, captioner in enumerate(captioners):
        expected: list[list[int]] = []
        own = [(value, options) for owner, value, options in mix if owner == index]
        for options in dict.fromkeys(options for _, options in own):
            group = [value for value, each in own if each == options]
            expected.append(group)
            if POISON in group and len(group) > 1:
                expected += [[value] for value in group]
                retries += 1
        assert captioner.passes == expected
    assert counts.retries == retries


def test_batch_runner_captioner_that_miscounts_fails_each_of_its_images() -> None:
    wrong, right = Miscounting("wrong"), Naming("right")
    jobs = [CaptionJob(captioner, image_of(1), OPTIONS[0]) for captioner in (wrong, right, wrong)]
    results = BatchRunner(Counts()).run(jobs)
    assert [isinstance(result, RuntimeError) for result in results] == [True, False, True]
    assert results[1] == caption_of("right", 1, OPTIONS[0])


@pytest.mark.parametrize("poisoned", [False, True])
def test_batch_runner_counts_in_the_services_metrics(poisoned: bool) -> None:
    metrics = Metrics()
    values = [1, POISON if poisoned else 2, 3]
    captioner = Naming("a")
    BatchRunner(metrics).run(
        [CaptionJob(captioner, image_of(value), OPTIONS[0]) for value in values]
    )
    text = metrics.render().decode()
    for line in (
        "glimpse_batch_size_sum 3.0",
        "glimpse_inference_seconds_count 1.0",
        f"glimpse_batch_retries_total {float(poisoned)}",
        f"glimpse_item_failures_total {float(poisoned)}",
    ):
        assert line in text


class Poisonable:
    """A real captioner that fails whenever the poisoned image is in its batch."""

    def __init__(self, captioner: NetworkCaptioner) -> None:
        self._captioner = captioner
        self.info = captioner.info
        self.runtime = captioner.runtime

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        return self._captioner.prepare(data, limits)

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        if any((image.pixels == POISON).all() for image in images):
            raise RuntimeError("no such operator")
        return self._captioner.caption(images, options)


def exact(caption: Caption) -> list[tuple[object, ...]]:
    """Every number of a caption, to the last bit."""
    return [
        (
            best.text,
            best.logprob.hex(),
            [
                (word.probability.hex(), word.beta.hex(), word.alpha.tobytes())
                for word in best.words
            ],
        )
        for best in caption.hypotheses
    ]


def test_run_poisoned_image_leaves_the_others_of_a_real_model_what_they_get_alone(
    tmp_path: Path,
) -> None:
    save_tiny_bundle(tmp_path / "tiny")
    captioner = Poisonable(load_captioner(tmp_path, "tiny", precision="float32"))
    side = captioner.info.config.preprocess.size_pixels
    random = np.random.default_rng(0)
    images = [
        PreparedImage(random.integers(0, 255, (3, side, side), dtype=np.uint8), side, side, "PNG")
        for _ in range(4)
    ]
    poisoned = PreparedImage(np.full((3, side, side), POISON, np.uint8), side, side, "PNG")
    batch = [*images[:2], poisoned, *images[2:]]
    options = OPTIONS[1]
    runner = BatchRunner(Counts())

    together = runner.run([CaptionJob(captioner, image, options) for image in batch])

    assert isinstance(together.pop(2), RuntimeError)
    for image, caption in zip(images, together, strict=True):
        assert isinstance(caption, Caption)
        (alone,) = runner.run([CaptionJob(captioner, image, options)])
        assert isinstance(alone, Caption)
        assert exact(caption) == exact(alone)
