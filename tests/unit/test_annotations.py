"""Annotations of photos, computed once: each photo as it is, and in augmented views."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.encoder import build_encoder, default_preprocess
from training.annotations import Annotator, Views
from training.corpus import Example
from training.distributed import Processes
from training.pictures import AnnotationCache, PictureReader
from training.progress import Journal
from training.synthetic import write

COUNT = 20


class Counted(PictureReader):
    """Counts the pictures that it has read."""

    count = 0

    def __call__(self, paths: list[Path]) -> Tensor:  # type: ignore[override]
        self.count += len(paths)
        return super().__call__(paths)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    folder = tmp_path_factory.mktemp("shapes")
    write(folder, train_count=COUNT, dev_count=1, seed=1, size_pixels=56)
    paths = sorted((folder / "images").glob("train-*"))
    assert len(paths) == COUNT
    return [Example(path.name, path, ((4,),), 1.0, flippable=False) for path in paths]


@pytest.fixture
def annotator(tmp_path: Path) -> Annotator:
    torch.manual_seed(0)
    reader = Counted(default_preprocess("tiny", 56), 0)
    journal = Journal(tmp_path / "run", speaks=False)
    encoder = build_encoder("tiny", 56).eval()
    return Annotator(encoder, reader, nullcontext, tmp_path / "cache", Processes.join("cpu"), journal)


def test_views_first_is_the_photo_as_it_is_and_others_differ_from_it_and_from_each_other(
    annotator: Annotator, examples: list[Example]
) -> None:
    views = annotator.views(examples, 3, seed=5)

    indices = list(range(COUNT))
    shown = [views.read(indices, [view] * COUNT) for view in range(3)]
    paths = [each.path for each in examples if each.path is not None]
    torch.testing.assert_close(shown[0], annotator.encode(annotator.reader(paths)), rtol=0, atol=1e-2)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        differing = (shown[first] - shown[second]).abs().amax(dim=(1, 2))
        assert differing.min() > 0.05  # every photo, by more than half precision


def test_views_are_computed_once_and_anew_for_another_seed(annotator: Annotator, examples: list[Example]) -> None:
    first = annotator.views(examples, 2, seed=5).read([0, 1], [1, 1])
    assert annotator.reader.count == 2 * COUNT  # type: ignore[attr-defined]
    again = annotator.views(examples, 2, seed=5).read([0, 1], [1, 1])
    assert annotator.reader.count == 2 * COUNT  # type: ignore[attr-defined]
    other = annotator.views(examples, 2, seed=6).read([0, 1], [1, 1])
    assert annotator.reader.count == 3 * COUNT  # type: ignore[attr-defined]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_views_each_photo_is_read_in_its_own(annotator: Annotator, examples: list[Example]) -> None:
    views = annotator.views(examples, 3, seed=5)
    mixed = views.read([7, 3, 7, 0], [2, 0, 1, 2])
    for row, (index, view) in enumerate(((7, 2), (3, 0), (7, 1), (0, 2))):
        assert torch.equal(mixed[row], views.read([index], [view])[0])


def test_views_are_drawn_alike_and_a_single_one_takes_nothing_from_the_generator(tmp_path: Path) -> None:
    cache = AnnotationCache(tmp_path, [], "none", (1, 1))
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    assert Views([cache]).draw(5, generator) == [0] * 5
    assert torch.equal(generator.get_state(), before)
    drawn = torch.tensor(Views([cache] * 3).draw(3000, generator))
    assert (drawn.bincount(minlength=3) / 3000 - 1 / 3).abs().max() < 0.05
