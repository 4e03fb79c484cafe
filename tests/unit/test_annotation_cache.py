"""Features on disk: annotations and tags of the same images, whatever was killed on the way."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from models.features import ImageFeatures
from tests.unit.test_features import features
from training.data.annotation_cache import AnnotationCache, Views

COUNT, BATCH = 7, 2
SHAPE, TAGS_SHAPE = (9, 5), (3, 15)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Files that are told apart by their names; nobody reads them here."""
    files = [tmp_path / "images" / f"{number}.png" for number in range(COUNT)]
    files[0].parent.mkdir()
    for file in files:
        file.write_bytes(b"image")
    return files


class Eyes:
    """Gives every image features of its own, and remembers which it was shown."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.shown: list[int] = []

    def __call__(self, paths: Sequence[Path]) -> ImageFeatures:
        numbers = [int(path.stem) for path in paths]
        self.shown += numbers
        return ImageFeatures.join([self.of(number) for number in numbers])

    def of(self, number: int) -> ImageFeatures:
        return features(1, seed=100 * self.seed + number)


def opened(folder: Path, paths: Sequence[Path], name: str = "eyes") -> AnnotationCache:
    return AnnotationCache(folder / "cache", paths, name, SHAPE, TAGS_SHAPE)


def filled(folder: Path, paths: Sequence[Path], eyes: Eyes) -> AnnotationCache:
    cache = opened(folder, paths, f"eyes {eyes.seed}")
    assert sum(cache.fill(eyes, BATCH)) == COUNT
    return cache


def assert_are(found: ImageFeatures, expected: Sequence[ImageFeatures]) -> None:
    """The features are those expected, but for half precision; what tags there are is exact."""
    together = ImageFeatures.join(expected)
    torch.testing.assert_close(found.annotations, together.annotations, atol=2e-3, rtol=1e-3)
    assert found.tags is not None
    assert together.tags is not None
    assert torch.equal(found.tags.classes, together.tags.classes)
    assert torch.equal(found.tags.present, together.tags.present)
    torch.testing.assert_close(found.tags.values, together.tags.values, atol=1e-3, rtol=1e-3)


def test_features_come_back_in_any_order_with_their_tags(tmp_path: Path, paths: list[Path]) -> None:
    eyes = Eyes()
    filled(tmp_path, paths, eyes)

    again = opened(tmp_path, paths, "eyes 0")

    assert again.complete
    assert_are(again.read([5, 0, 6, 0]), [eyes.of(number) for number in (5, 0, 6, 0)])
    assert list(again.fill(eyes, BATCH)) == []
    assert eyes.shown == list(range(COUNT))  # once each


def test_cache_killed_between_batches_is_not_complete_and_the_next_run_completes_it(
    tmp_path: Path, paths: list[Path]
) -> None:
    killed = opened(tmp_path, paths).fill(Eyes(seed=9), BATCH)
    next(killed)
    next(killed)
    killed.close()
    eyes = Eyes()

    cache = opened(tmp_path, paths)
    assert not cache.complete
    assert sum(cache.fill(eyes, BATCH)) == COUNT

    assert opened(tmp_path, paths).complete
    assert_are(cache.read(range(COUNT)), [eyes.of(number) for number in range(COUNT)])


def test_cache_killed_before_the_last_file_has_its_name_is_completed_and_leaves_nothing(
    tmp_path: Path, paths: list[Path]
) -> None:
    eyes = Eyes()
    killed = opened(tmp_path, paths)
    for rank in range(2):
        list(killed.fill(eyes, BATCH, rank=rank, world=2))
    assert killed.tags is not None
    killed.tags.finish()  # and then it was killed

    cache = opened(tmp_path, paths)
    assert not cache.complete
    assert sum(cache.fill(eyes, BATCH)) == COUNT

    assert_are(cache.read(range(COUNT)), [eyes.of(number) for number in range(COUNT)])
    assert {file.suffix for file in (tmp_path / "cache").iterdir()} == {".f16"}


def test_cache_of_two_ranks_is_that_of_one(tmp_path: Path, paths: list[Path]) -> None:
    eyes = Eyes()
    ranks = [opened(tmp_path, paths) for _ in range(2)]

    counts = [
        sum(cache.fill(eyes, BATCH, rank=rank, world=2))
        for rank, cache in reversed(list(enumerate(ranks)))
    ]

    assert sum(counts) == COUNT
    assert min(counts) > 0
    assert not opened(tmp_path, paths).complete  # the first process has the last word
    ranks[0].finish()
    found = opened(tmp_path, paths).read(range(COUNT))
    whole = filled(tmp_path / "one", paths, eyes).read(range(COUNT))
    assert torch.equal(found.annotations, whole.annotations)
    assert found.tags is not None
    assert whole.tags is not None
    assert torch.equal(found.tags.values, whole.tags.values)


def test_views_give_annotations_and_tags_of_the_same_image_in_the_same_view(
    tmp_path: Path, paths: list[Path]
) -> None:
    eyes = [Eyes(seed) for seed in range(3)]
    views = Views([filled(tmp_path, paths, each) for each in eyes])
    chosen = [(6, 2), (3, 0), (6, 1), (0, 2), (6, 0)]

    found = views.read([image for image, _ in chosen], [view for _, view in chosen])

    assert_are(found, [eyes[view].of(image) for image, view in chosen])


def test_cache_of_eyes_without_tags_has_none(tmp_path: Path, paths: list[Path]) -> None:
    cache = AnnotationCache(tmp_path / "cache", paths, "blind to tags", SHAPE)

    list(cache.fill(lambda paths: ImageFeatures(Eyes()(paths).annotations), BATCH))

    assert cache.read([1, 2]).tags is None
    assert len(list((tmp_path / "cache").iterdir())) == 1
