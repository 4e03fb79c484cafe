"""Augmented images keep their size, their type and the truth of their captions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training.data.augmentation import augment, mirror
from training.data.batching import seeded


def halves(count: int, size: int = 32) -> Tensor:
    """Images that are dark on the left and bright on the right."""
    pixels = torch.full((count, 3, size, size), 40, dtype=torch.uint8)
    pixels[..., size // 2 :] = 200
    return pixels


def is_mirrored(pixels: Tensor) -> Tensor:
    """Tell for each of `halves` whether its left is the bright side now: (B,) bool."""
    size = pixels.shape[-1]
    return pixels[..., : size // 4].float().mean((1, 2, 3)) > pixels[
        ..., -size // 4 :
    ].float().mean((1, 2, 3))


def test_mirror_twice_gives_the_image_back() -> None:
    pixels = torch.randint(0, 256, (2, 3, 5, 7), generator=seeded(0)).to(torch.uint8)
    assert torch.equal(mirror(mirror(pixels)), pixels)
    assert torch.equal(mirror(pixels)[..., 0], pixels[..., -1])


def test_augment_never_mirrors_what_is_not_flippable() -> None:
    for step in range(20):
        assert not is_mirrored(
            augment(halves(50), torch.zeros(50, dtype=torch.bool), seeded(step))
        ).any()


def test_augment_mirrors_about_half_of_what_is_flippable_each_by_its_own_draw() -> None:
    flippable = torch.arange(400) % 2 == 0
    mirrored = is_mirrored(augment(halves(400), flippable, seeded(1)))
    assert not mirrored[~flippable].any()
    assert 60 < int(mirrored[flippable].sum()) < 140  # of 200: four standard deviations are 28


@given(seed=st.integers(0, 10_000), size=st.integers(8, 40))
def test_augment_any_image_keeps_size_and_type_and_is_deterministic(seed: int, size: int) -> None:
    pixels = torch.randint(0, 256, (3, 3, size, size), generator=seeded(seed, 1)).to(torch.uint8)
    before = pixels.clone()
    flippable = torch.tensor([True, False, True])
    changed = augment(pixels, flippable, seeded(seed))
    assert (changed.shape, changed.dtype) == (pixels.shape, torch.uint8)
    assert torch.equal(changed, augment(pixels, flippable, seeded(seed)))
    assert torch.equal(pixels, before)  # the cache of pixels, if any, is not written to


def test_augment_other_generator_changes_the_image_otherwise() -> None:
    flippable = torch.zeros(4, dtype=torch.bool)
    assert not torch.equal(
        augment(halves(4), flippable, seeded(0)), augment(halves(4), flippable, seeded(1))
    )


def test_augment_extreme_images_stay_within_bytes() -> None:
    """Overflow would turn white black: the brightest must stay bright and the darkest dark."""
    flippable = torch.ones(64, dtype=torch.bool)
    white = augment(torch.full((64, 3, 16, 16), 255, dtype=torch.uint8), flippable, seeded(2))
    assert int(white.min()) >= 0.79 * 255
    assert (
        int(augment(torch.zeros(64, 3, 16, 16, dtype=torch.uint8), flippable, seeded(3)).max()) == 0
    )


def test_augment_an_image_does_not_depend_on_the_pixels_of_its_neighbors() -> None:
    """Each is recolored about its own mean."""
    flippable = torch.zeros(2, dtype=torch.bool)
    one, other = halves(2), halves(2)
    other[1] = 255
    assert torch.equal(
        augment(one, flippable, seeded(9))[0], augment(other, flippable, seeded(9))[0]
    )


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_augment_zoom_moves_things_by_a_fraction_of_the_image_only(
    corner: tuple[int, int],
) -> None:
    """A bright quarter stays in its quarter: what "above" and "below" say stays true as well."""
    size = 40
    pixels = torch.full((100, 3, size, size), 30, dtype=torch.uint8)
    rows = slice(0, size // 2) if corner[0] == 0 else slice(size // 2, size)
    columns = slice(0, size // 2) if corner[1] == 0 else slice(size // 2, size)
    pixels[:, :, rows, columns] = 220
    # Shape (B, H, W).
    changed = augment(pixels, torch.zeros(100, dtype=torch.bool), seeded(7)).float().mean(dim=1)
    quarters = torch.nn.functional.avg_pool2d(changed, size // 2)  # (B, 2, 2)
    brightest = quarters.flatten(1).argmax(dim=1)
    assert (brightest == 2 * -corner[0] - corner[1]).all()
