"""The drawn maps, through the service: heat lies on the cells that the map names, whatever rim the
grid leaves.

On a gray image a pixel's brightness is linear in the heat. A map that is all on one cell is drawn
at full contrast, so its darkest and brightest pixels are heat 0 and heat 1, and the heat of every
other drawing can be read off.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.engine.fake import FakeCaptioner
from evaluation.report.map_sheets import draw_map
from models.caption import Caption, Hypothesis, Word
from models.config import DecodingOptions
from models.geometry import Box, CellGrid
from models.preprocessing import PreparedImage

WIDTH, HEIGHT = 224, 80  # too low for the tag with the word, which would cover cells
INCEPTION = 13.5 / 251, (13.5 + 14 * 16) / 251  # where the default encoder's cells begin and end
GRIDS = {
    "rim": CellGrid(14, 14, Box(INCEPTION[0], INCEPTION[0], INCEPTION[1], INCEPTION[1])),
    "whole image": CellGrid(14, 14),
    "uneven rim": CellGrid(4, 6, Box(0.05, 0.2, 0.85, 0.9)),
}
CORNERS_AND_EDGES = [(0, 0), (0, -1), (-1, 0), (-1, -1), (0, 2), (-1, 2), (2, 0), (2, -1)]

Heat = Callable[[np.ndarray], np.ndarray]


def gray_image() -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 128))


def one_hot(grid: CellGrid, row: int, column: int) -> np.ndarray:
    alpha = np.zeros((grid.rows, grid.columns), dtype=np.float32)
    alpha[row, column] = 1.0
    return alpha


@pytest.fixture
def draw(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[CellGrid, np.ndarray], np.ndarray]:
    """Give the pixels (H, W, 3) of `POST /attention?format=png&word=0` for a map (rows, columns) of
    our choice."""

    def pixels_of(grid: CellGrid, alpha: np.ndarray) -> np.ndarray:
        def caption(
            _: FakeCaptioner, images: Sequence[PreparedImage], __: DecodingOptions
        ) -> list[Caption]:
            hypothesis = Hypothesis("cat", (Word("cat", 0.5, alpha, 1.0),), -1.0, 0.5)
            return [Caption((hypothesis,), grid) for _ in images]

        monkeypatch.setattr(FakeCaptioner, "caption", caption)
        file = io.BytesIO()
        gray_image().save(file, format="PNG")
        with serve() as client:
            answer = client.post(
                "/attention?format=png&word=0", files={"image": ("a.png", file.getvalue())}
            )
        assert answer.status_code == 200, answer.text
        return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))

    return pixels_of


@pytest.fixture
def heat(
    draw: Callable[[CellGrid, np.ndarray], np.ndarray],
) -> Callable[[CellGrid, np.ndarray], np.ndarray]:
    """Give the heat (H, W) in [0, 1] that the service drew."""
    whole = CellGrid(14, 14)
    scale = draw(whole, one_hot(whole, 7, 7)).astype(float).sum(axis=2)

    def heat_of(grid: CellGrid, alpha: np.ndarray) -> np.ndarray:
        brightness = draw(grid, alpha).astype(float).sum(axis=2)
        return np.asarray((brightness - scale.min()) / (scale.max() - scale.min()))

    return heat_of


def cell_of(grid: CellGrid, row: int, column: int) -> np.ndarray:
    """Mark the pixels (H, W) of one cell, by its corners in pixels."""
    left, top, right, bottom = grid.in_pixels(WIDTH, HEIGHT)
    x = (np.arange(WIDTH) + 0.5 - left) / (right - left) * grid.columns
    y = (np.arange(HEIGHT) + 0.5 - top) / (bottom - top) * grid.rows
    row, column = row % grid.rows, column % grid.columns
    return np.outer((row <= y) & (y < row + 1), (column <= x) & (x < column + 1))


@pytest.mark.parametrize("name", GRIDS)
def test_overlay_even_map_is_drawn_even(
    name: str, heat: Callable[[CellGrid, np.ndarray], np.ndarray]
) -> None:
    grid = GRIDS[name]
    even = np.full((grid.rows, grid.columns), 1 / (grid.rows * grid.columns), dtype=np.float32)
    np.testing.assert_allclose(heat(grid, even), 0.5, atol=0.01)  # of 8-bit colors


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("cell", CORNERS_AND_EDGES)
def test_overlay_peak_in_a_corner_or_edge_cell_is_drawn_at_full_heat_on_that_cell(
    name: str, cell: tuple[int, int], heat: Callable[[CellGrid, np.ndarray], np.ndarray]
) -> None:
    grid = GRIDS[name]
    drawn = heat(grid, one_hot(grid, *cell))
    inside = cell_of(grid, *cell)
    assert drawn[inside].max() >= 0.97
    assert drawn[inside].min() >= 0.15
    assert drawn[inside].mean() > 0.5
    far = ~cell_of(grid, *cell)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            far &= ~cell_of(grid, cell[0] % grid.rows + row, cell[1] % grid.columns + column)
    x, y = grid.locate_pixels(WIDTH, HEIGHT)
    rim = np.add.outer((y < 0) | (y >= grid.rows), (x < 0) | (x >= grid.columns))
    assert drawn[far & ~rim].max() < 0.1


@pytest.mark.parametrize("name", GRIDS)
def test_overlay_of_the_service_and_of_the_maps_page_are_the_same_pixels(
    name: str, draw: Callable[[CellGrid, np.ndarray], np.ndarray]
) -> None:
    grid = GRIDS[name]
    cells = np.random.default_rng(0).dirichlet(np.full(grid.rows * grid.columns, 0.3))
    alpha = cells.reshape(grid.rows, grid.columns).astype(np.float32)
    page = draw_map(gray_image(), alpha, grid.box, ())
    np.testing.assert_array_equal(draw(grid, alpha), np.asarray(page))
