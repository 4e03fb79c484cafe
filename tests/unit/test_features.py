"""Image features as values, and where tags lie on the grid."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.array_features import TAG_CLASSES, ArrayFeatures, TagArrays, places_of_boxes
from models.features import ImageFeatures, Tags
from models.geometry import Box, CellGrid

GRID = CellGrid(14, 14)
RIMMED = CellGrid(14, 14, Box(0.05, 0.05, 0.95, 0.95))


def random_tags(images: int, count: int, locations: int = 9, seed: int = 0) -> Tags:
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(images, count, locations, generator=generator)
    return Tags.pack(
        torch.randint(TAG_CLASSES, (images, count), generator=generator),
        torch.rand(images, count, generator=generator) + 0.01,
        torch.rand(images, count, 4, generator=generator),
        places / places.sum(dim=2, keepdim=True),
    )


def features(images: int, seed: int = 0) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    return ImageFeatures(
        torch.randn(images, 9, 5, generator=generator), random_tags(images, 3, seed=seed)
    )


def test_tags_packed_are_what_they_were_made_of() -> None:
    classes = torch.tensor([[3, 1079], [80, 0]])
    scores = torch.tensor([[0.5, 0.25], [1.0, 0.0]])
    boxes = torch.rand(2, 2, 4)
    places = torch.rand(2, 2, 9)

    tags = Tags.pack(classes, scores, boxes, places)

    assert torch.equal(tags.classes, classes)
    assert torch.equal(tags.scores, scores)
    assert torch.equal(tags.boxes, boxes)
    assert torch.equal(tags.places, places)
    assert tags.present.tolist() == [[True, True], [True, False]]
    assert len(tags) == 2


def test_tags_every_class_survives_half_precision() -> None:
    classes = torch.arange(TAG_CLASSES).unsqueeze(0)
    tags = Tags.pack(classes, torch.ones(classes.shape), *_blank(classes.shape))

    assert torch.equal(Tags(tags.values.half().float()).classes, classes)


def _blank(shape: torch.Size) -> tuple[Tensor, Tensor]:
    return torch.zeros(*shape, 4), torch.zeros(*shape, 1)


def test_features_taken_one_by_one_and_joined_are_the_same() -> None:
    whole = features(4)

    again = ImageFeatures.join(list(whole))

    assert len(whole) == len(again) == 4
    assert torch.equal(again.annotations, whole.annotations)
    assert again.tags is not None
    assert whole.tags is not None
    assert torch.equal(again.tags.values, whole.tags.values)


def test_features_without_tags_join_to_features_without_tags() -> None:
    joined = ImageFeatures.join(
        [ImageFeatures(torch.ones(1, 2, 3)), ImageFeatures(torch.ones(2, 2, 3))]
    )

    assert len(joined) == 3
    assert joined.tags is None


def test_features_put_replaces_the_chosen_images_alone() -> None:
    before = features(4)
    changed = ImageFeatures.join(list(before))
    others = features(2, seed=1)

    changed.put([3, 1], others)

    for row, expected in enumerate((before[0:1], others[1:2], before[2:3], others[0:1])):
        assert torch.equal(changed.annotations[row : row + 1], expected.annotations)
        assert changed.tags is not None
        assert expected.tags is not None
        assert torch.equal(changed.tags.values[row : row + 1], expected.tags.values)


def test_features_moved_to_half_precision_take_their_tags_along() -> None:
    halved = features(2).to(torch.float16)

    assert halved.annotations.dtype == torch.float16
    assert halved.tags is not None
    assert halved.tags.values.dtype == torch.float16


edges = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@given(across=edges, down=edges, grid=st.sampled_from([GRID, RIMMED]))
def test_places_of_a_box_are_its_share_of_each_cell(
    across: list[float], down: list[float], grid: CellGrid
) -> None:
    box = (across[0], down[0], across[1], down[1])

    (places,) = places_of_boxes(np.array([box], dtype=np.float32), grid)

    assert float(places.sum()) == pytest.approx(1.0, abs=1e-4)
    covered = grid.coverage([box])
    if float(covered.sum()) > 1e-2:
        np.testing.assert_allclose(places, covered / covered.sum(), atol=1e-3, rtol=1e-2)


def test_places_of_a_box_that_no_cell_sees_are_even() -> None:
    (places,) = places_of_boxes(np.array([[0.0, 0.0, 0.04, 1.0]], dtype=np.float32), RIMMED)

    np.testing.assert_allclose(places, np.full(196, 1 / 196), rtol=1e-6)


def test_features_in_numpy_are_those_in_torch_and_back_without_a_copy() -> None:
    whole = features(3)

    arrays = ArrayFeatures.of(whole)
    again = ImageFeatures.of(arrays)

    assert arrays.tags is not None
    assert whole.tags is not None
    assert again.tags is not None
    assert isinstance(arrays.annotations, np.ndarray)
    assert again.annotations.data_ptr() == whole.annotations.data_ptr()
    assert again.tags.values.data_ptr() == whole.tags.values.data_ptr()
    for name in ("classes", "scores", "boxes", "places"):
        np.testing.assert_array_equal(getattr(arrays.tags, name), getattr(whole.tags, name))
    np.testing.assert_allclose(arrays.means, whole.means, rtol=1e-6)
    second = arrays[1:2]
    assert [len(each) for each in (arrays, second, *arrays)] == [3, 1, 1, 1, 1]
    np.testing.assert_array_equal(second.annotations, whole.annotations[1:2])


def test_tag_arrays_packed_are_what_they_were_made_of_and_join_behind_each_other() -> None:
    tags = random_tags(2, 3)
    parts = [np.asarray(getattr(tags, name)) for name in ("classes", "scores", "boxes", "places")]

    packed = TagArrays.pack(*parts)

    np.testing.assert_array_equal(packed.values, tags.values)
    assert len(packed) == 2
    joined = TagArrays.join([packed, packed])
    np.testing.assert_array_equal(joined.values[:, 3:], packed.values)


def test_features_with_and_without_tags_are_not_joined() -> None:
    with pytest.raises(ValueError, match="cannot be joined"):
        ImageFeatures.join([features(1), ImageFeatures(torch.ones(1, 9, 5))])
