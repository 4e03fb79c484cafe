"""The cells of a map on an image: each way to ask where they lie gives the same place."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.geometry import WHOLE_IMAGE, Box, CellGrid

GRID = CellGrid(2, 4)
RIM = CellGrid(3, 5, Box(0.1, 0.2, 0.85, 0.9))
BOX = Box(0.1, 0.2, 0.6, 0.8)


def shares(boxes: Sequence[tuple[float, float, float, float]], grid: CellGrid) -> torch.Tensor:
    return torch.from_numpy(grid.coverage(boxes))


def test_box_in_pixels_is_scaled_by_width_and_height() -> None:
    assert Box(0.25, 0.5, 0.75, 1.0).in_pixels(400, 200) == (100.0, 100.0, 300.0, 200.0)
    assert RIM.in_pixels(100, 10) == pytest.approx((10.0, 2.0, 85.0, 9.0))


def test_box_mirrored_twice_is_the_same_box() -> None:
    assert BOX.mirrored() == pytest.approx((0.4, 0.2, 0.9, 0.8))
    assert BOX.mirrored().mirrored() == pytest.approx(BOX)
    assert WHOLE_IMAGE.mirrored() == WHOLE_IMAGE


def test_centers_lie_in_the_middle_of_the_cells_row_by_row() -> None:
    across, down = GRID.centers()
    assert across.tolist() == [0.125, 0.375, 0.625, 0.875] * 2
    assert down.tolist() == [0.25] * 4 + [0.75] * 4


@pytest.mark.parametrize("grid", [GRID, RIM, CellGrid(1, 1)])
def test_locate_pixels_puts_every_pixel_into_the_cell_whose_area_holds_its_center(
    grid: CellGrid,
) -> None:
    width, height = 60, 40
    x, y = grid.locate_pixels(width, height)
    for row in range(height):
        for column in range(width):
            pixel = Box(column / width, row / height, (column + 1) / width, (row + 1) / height)
            x_inset, y_inset = 0.49 / width, 0.49 / height
            middle = Box(
                pixel[0] + x_inset, pixel[1] + y_inset, pixel[2] - x_inset, pixel[3] - y_inset
            )
            found = np.flatnonzero(grid.coverage([middle]))
            cell = (int(np.floor(y[row])), int(np.floor(x[column])))
            inside = 0 <= cell[0] < grid.rows and 0 <= cell[1] < grid.columns
            assert found.tolist() == ([cell[0] * grid.columns + cell[1]] if inside else [])


@pytest.mark.parametrize("grid", [GRID, RIM])
def test_grid_mirrored_sees_mirrored_boxes_in_reversed_columns(grid: CellGrid) -> None:
    plain = grid.coverage([BOX]).reshape(grid.rows, grid.columns)
    mirrored = grid.mirrored().coverage([BOX.mirrored()]).reshape(grid.rows, grid.columns)
    np.testing.assert_allclose(mirrored, plain[:, ::-1], atol=1e-6)


def sampled_shares(boxes: list[Box], grid: CellGrid, points: int) -> torch.Tensor:
    """The share of evenly spaced points of each cell that lie in a box."""
    left, top, right, bottom = grid.box
    steps = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    sampled = []
    for row in range(grid.rows):
        for column in range(grid.columns):
            y = (top + (row + steps) / grid.rows * (bottom - top)).unsqueeze(1)
            x = (left + (column + steps) / grid.columns * (right - left)).unsqueeze(0)
            inside = torch.zeros(points, points, dtype=torch.bool)
            for each in boxes:
                inside |= (each[0] <= x) & (x < each[2]) & (each[1] <= y) & (y < each[3])
            sampled.append(inside.double().mean())
    return torch.stack(sampled)


def test_coverage_whole_image_is_one_everywhere_and_of_nothing_is_zero() -> None:
    assert torch.equal(shares([(0.0, 0.0, 1.0, 1.0)], GRID), torch.ones(8))
    assert torch.equal(shares([], GRID), torch.zeros(8))


def test_coverage_half_covered_cells_count_half_row_by_row() -> None:
    covered = shares([(0.125, 0.0, 0.5, 0.25)], GRID)
    assert covered.tolist() == pytest.approx([0.25, 0.5, 0, 0, 0, 0, 0, 0])


def test_coverage_overlapping_boxes_count_once() -> None:
    once = shares([BOX], GRID)
    assert torch.equal(shares([BOX, BOX, (0.2, 0.3, 0.5, 0.5)], GRID), once)


def test_coverage_box_in_the_rim_is_zero() -> None:
    grid = CellGrid(2, 2, Box(0.1, 0.1, 0.9, 0.9))
    assert torch.equal(shares([(0.0, 0.0, 0.1, 1.0), (0.95, 0.0, 1.0, 1.0)], grid), torch.zeros(4))


@given(seed=st.integers(0, 10_000), count=st.integers(1, 5))
def test_coverage_any_boxes_equal_the_share_of_points_inside(seed: int, count: int) -> None:
    draw = random.Random(seed).random
    boxes: list[Box] = []
    while len(boxes) < count:
        left, right = sorted((draw(), draw()))
        top, bottom = sorted((draw(), draw()))
        boxes.append(Box(left, top, right, bottom))
    grid = CellGrid(3, 2, Box(0.05, 0.1, 0.9, 0.85))
    covered = shares(boxes, grid)
    assert covered.dtype == torch.float32
    assert covered.tolist() == pytest.approx(
        sampled_shares(boxes, grid, 60).tolist(), abs=0.05 * count
    )
