"""Annotations of images, computed once: each image as it is, and in augmented views."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.encoders import build_encoder, default_preprocess
from models.geometry import Box
from models.network import CaptioningModel
from models.runtime.torch import fingerprint
from tests.unit.toys import tiny_config, tiny_model
from training import annotation
from training.annotation import Annotator
from training.data.annotation_cache import AnnotationCache, Views, shown
from training.data.augmentation import augment
from training.data.examples import Example
from training.data.flickr30k_entities import Phrase
from training.data.images import ImageReader
from training.data.synthetic_shapes import write
from training.distributed import Processes
from training.run_log import RunLog

COUNT = 20


class Counted(ImageReader):
    """Counts the images that it has read."""

    count = 0

    def __call__(self, paths: Sequence[Path]) -> Tensor:
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
    run_log = RunLog(tmp_path / "run", speaks=False)
    network = tiny_model(tiny_config())
    return Annotator(
        network, reader, nullcontext, tmp_path / "cache", Processes.join("cpu"), run_log
    )


def test_views_first_is_the_image_as_it_is_and_others_differ_from_it_and_from_each_other(
    annotator: Annotator, examples: list[Example]
) -> None:
    views = annotator.views(examples, 3, seed=5)

    indices = list(range(COUNT))
    shown = [views.read(indices, [view] * COUNT).annotations for view in range(3)]
    paths = [each.path for each in examples if each.path is not None]
    torch.testing.assert_close(
        shown[0], annotator.encode(annotator.reader(paths)).annotations, rtol=0, atol=1e-2
    )
    for first, second in ((0, 1), (0, 2), (1, 2)):
        differing = (shown[first] - shown[second]).abs().amax(dim=(1, 2))
        assert differing.min() > 0.05  # every image, by more than half precision


def test_views_are_computed_once_and_anew_for_another_seed(
    annotator: Annotator, examples: list[Example]
) -> None:
    first = annotator.views(examples, 2, seed=5).read([0, 1], [1, 1]).annotations
    assert annotator.reader.count == 2 * COUNT  # type: ignore[attr-defined]
    again = annotator.views(examples, 2, seed=5).read([0, 1], [1, 1]).annotations
    assert annotator.reader.count == 2 * COUNT  # type: ignore[attr-defined]
    other = annotator.views(examples, 2, seed=6).read([0, 1], [1, 1]).annotations
    assert annotator.reader.count == 3 * COUNT  # type: ignore[attr-defined]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_views_mirror_only_where_every_caption_of_the_image_stays_true(
    annotator: Annotator, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def spy(pixels: Tensor, flippable: Tensor, generator: torch.Generator) -> Tensor:
        asked.extend(flippable.tolist())
        return augment(pixels, flippable, generator)

    monkeypatch.setattr(annotation, "augment", spy)
    may = [replace(each, flippable=True) for each in examples]
    # Another set has the image too, and says left.
    once_more = replace(may[1], captions=((5,),), flippable=False)
    annotator.views([*may, once_more], 2, seed=5)
    assert asked == [True, False, *[True] * (COUNT - 2), False]


def test_views_are_computed_anew_where_other_images_may_be_mirrored(
    annotator: Annotator, examples: list[Example]
) -> None:
    everywhere = annotator.views([replace(each, flippable=True) for each in examples], 2, seed=5)
    nowhere = annotator.views(examples, 2, seed=5)
    indices, second = list(range(COUNT)), [1] * COUNT
    mirrored = everywhere.read(indices, second).annotations
    differing = (mirrored != nowhere.read(indices, second).annotations).flatten(1).any(dim=1)
    assert 0 < differing.sum() < COUNT  # about half of the draws say to mirror


def test_views_of_two_processes_are_those_of_one(
    annotator: Annotator, examples: list[Example], tmp_path: Path
) -> None:
    class Rank(Processes):
        """One of two processes, which here come after each other: none waits."""

        def wait(self) -> None:
            return

    whole = annotator.views(examples, 2, seed=5)
    for rank in (1, 0):  # the first process completes the cache
        both = replace(
            annotator, folder=tmp_path / "two", processes=Rank(rank, 2, torch.device("cpu"))
        )
        shared = both.views(examples, 2, seed=5)
    indices = list(range(COUNT))
    for view in (0, 1):
        torch.testing.assert_close(
            shared.read(indices, [view] * COUNT).annotations,
            whole.read(indices, [view] * COUNT).annotations,
        )


def test_annotator_sees_an_image_alike_whatever_it_saw_before_and_leaves_the_encoder_as_it_was(
    annotator: Annotator, examples: list[Example]
) -> None:
    """An encoder with batch normalization would not, in training mode."""
    torch.manual_seed(0)
    encoder = build_encoder("torchvision/resnet18", 224).train()
    reader = ImageReader(default_preprocess("torchvision/resnet18", 224), 0)
    before = fingerprint(encoder)
    network = CaptioningModel(encoder, tiny_model(tiny_config()).decoder)
    seeing = replace(annotator, network=network, reader=reader)
    paths = [each.path for each in examples[:2] if each.path is not None]
    alone = seeing.encode(reader(paths[:1])).annotations
    together = seeing.encode(reader(paths)).annotations
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-3)
    assert fingerprint(encoder) == before


def test_shown_boxes_are_known_for_the_image_as_it_is_alone(examples: list[Example]) -> None:
    phrase = Phrase(0, 1, (Box(0.1, 0.2, 0.3, 0.4),))
    grounded = [replace(each, grounding=((phrase,),)) for each in examples[:3]]
    assert [each.grounding for each in shown(grounded, [0, 2, 1])] == [((phrase,),), (), ()]
    assert shown(grounded, [0, 0, 0]) == grounded


def test_views_each_image_is_read_in_its_own(annotator: Annotator, examples: list[Example]) -> None:
    views = annotator.views(examples, 3, seed=5)
    mixed = views.read([7, 3, 7, 0], [2, 0, 1, 2]).annotations
    for row, (index, view) in enumerate(((7, 2), (3, 0), (7, 1), (0, 2))):
        assert torch.equal(mixed[row], views.read([index], [view]).annotations[0])


def test_views_are_drawn_alike_and_a_single_one_takes_nothing_from_the_generator(
    tmp_path: Path,
) -> None:
    cache = AnnotationCache(tmp_path, [], "none", (1, 1))
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    assert Views([cache]).draw(5, generator) == [0] * 5
    assert torch.equal(generator.get_state(), before)
    drawn = torch.tensor(Views([cache] * 3).draw(3000, generator))
    assert (drawn.bincount(minlength=3) / 3000 - 1 / 3).abs().max() < 0.05
