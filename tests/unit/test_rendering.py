"""Overlays: the light falls where the map says, flat maps stay flat, and no image or word breaks
the sheet."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.rendering import Panel, encode_png, render_grid, render_word, upsample_alpha

UNIFORM = np.full((14, 14), 1 / 196, dtype=np.float32)


def spot(
    row: int, column: int, rows: int = 14, columns: int = 14, sigma_cells: float = 1.0
) -> np.ndarray:
    """A Gaussian map that sums to 1, its peak in one cell."""
    vertical, horizontal = np.mgrid[:rows, :columns]
    squared = (vertical - row) ** 2 + (horizontal - column) ** 2
    alpha = np.exp(-0.5 * squared / sigma_cells**2)
    return np.asarray(alpha / alpha.sum(), dtype=np.float32)


def gray(width: int, height: int, level: int = 128) -> Image.Image:
    return Image.new("RGB", (width, height), (level, level, level))


def brightness(image: Image.Image) -> np.ndarray:
    summed: np.ndarray = np.asarray(image, dtype=float).sum(axis=2)
    return summed


def peak_cell(values: np.ndarray, rows: int, columns: int) -> tuple[int, int]:
    """The cell that holds the center of the brightest pixels."""
    vertical, horizontal = np.nonzero(values >= values.max() - 1e-6)
    return int((vertical.mean() + 0.5) * rows / values.shape[0]), int(
        (horizontal.mean() + 0.5) * columns / values.shape[1]
    )


# --- upsample_alpha ----


@settings(max_examples=80)
@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    seed=st.integers(0, 1000),
)
def test_upsample_alpha_any_shape_gives_heat_between_0_and_1(
    rows: int, columns: int, width: int, height: int, seed: int
) -> None:
    alpha = (
        np.random.default_rng(seed).dirichlet(np.full(rows * columns, 0.3)).reshape(rows, columns)
    )
    heat = upsample_alpha(alpha.astype(np.float32), (width, height))
    assert heat.shape == (height, width)
    assert heat.dtype == np.float32
    assert heat.min() >= 0.0
    assert heat.max() <= 1.0


@settings(max_examples=80)
@given(
    row=st.integers(0, 13),
    column=st.integers(0, 13),
    width=st.integers(60, 400),
    height=st.integers(60, 400),
    sigma_cells=st.floats(0.1, 2.0),
)
def test_upsample_alpha_peak_lies_in_the_peak_cell(
    row: int, column: int, width: int, height: int, sigma_cells: float
) -> None:
    heat = upsample_alpha(spot(row, column, sigma_cells=sigma_cells), (width, height))
    vertical, horizontal = np.unravel_index(heat.argmax(), heat.shape)
    # Within the cell or, where a broad spot is cut off by the border, within a pixel of it.
    assert row - 14 / height <= (vertical + 0.5) * 14 / height <= row + 1 + 14 / height
    assert column - 14 / width <= (horizontal + 0.5) * 14 / width <= column + 1 + 14 / width


@pytest.mark.parametrize(
    "alpha", [UNIFORM, np.zeros((14, 14), np.float32), np.ones((1, 1), np.float32)]
)
def test_upsample_alpha_flat_map_is_one_half_everywhere(alpha: np.ndarray) -> None:
    heat = upsample_alpha(alpha, (200, 100))
    np.testing.assert_allclose(heat, 0.5, atol=1e-4)


def test_upsample_alpha_contrast_grows_with_the_peak_and_is_full_from_three_times_the_mean() -> (
    None
):
    spans = []
    for ratio in (1.0, 1.1, 1.5, 2.0, 3.0, 10.0):
        alpha = np.ones((14, 14))
        alpha[5, 5] = ratio * 195 / (196 - ratio)  # so that peak / mean is the ratio
        heat = upsample_alpha((alpha / alpha.sum()).astype(np.float32), (140, 140))
        spans.append(float(heat.max() - heat.min()))
    assert spans == pytest.approx([0.0, 0.05, 0.25, 0.5, 1.0, 1.0], abs=1e-3)


def test_upsample_alpha_depends_on_the_shape_of_the_map_only() -> None:
    alpha = spot(3, 9)
    np.testing.assert_allclose(
        upsample_alpha(alpha, (90, 70)), upsample_alpha(alpha * 7, (90, 70)), atol=1e-5
    )


def test_upsample_alpha_mirrored_map_gives_mirrored_heat() -> None:
    alpha = spot(3, 9, sigma_cells=2.0)
    heat = upsample_alpha(alpha, (91, 70))
    np.testing.assert_allclose(upsample_alpha(alpha[:, ::-1], (91, 70)), heat[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(upsample_alpha(alpha.T, (70, 91)), heat.T, atol=1e-5)


def test_upsample_alpha_is_smooth() -> None:
    heat = upsample_alpha(spot(7, 7, sigma_cells=0.1), (448, 448))
    # A 32-pixel cell seen as a block would jump by 1.
    assert np.abs(np.diff(heat, axis=0)).max() < 0.04


# --- render_word ----


@pytest.mark.parametrize("size", [(400, 400), (640, 240), (180, 500)])
@pytest.mark.parametrize("cell", [(0, 0), (2, 11), (7, 7), (13, 13)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_render_word_is_brightest_in_the_peak_cell(
    size: tuple[int, int], cell: tuple[int, int], level: int
) -> None:
    overlay = render_word(gray(*size, level=level), Panel("dog", spot(*cell)), with_label=False)
    assert overlay.size == size
    assert peak_cell(brightness(overlay), 14, 14) == cell


def test_render_word_map_of_another_grid_is_placed_by_its_own_cells() -> None:
    overlay = render_word(
        gray(300, 200),
        Panel("dog", spot(1, 6, rows=4, columns=8, sigma_cells=0.5)),
        with_label=False,
    )
    assert peak_cell(brightness(overlay), 4, 8) == (1, 6)


def test_render_word_uniform_map_keeps_a_flat_image_flat() -> None:
    pixels = np.asarray(render_word(gray(333, 222), Panel("the", UNIFORM), with_label=False))
    assert (pixels == pixels[0, 0]).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 300), (500, 300)),
        ((4000, 3000), (1024, 768)),
        ((16, 20_000), (1, 1024)),
        ((1, 1), (1, 1)),
    ],
)
def test_render_word_long_side_is_capped(size: tuple[int, int], expected: tuple[int, int]) -> None:
    overlay = render_word(gray(*size), Panel("dog", spot(7, 7), 0.5))
    assert overlay.size == expected
    assert overlay.mode == "RGB"


def test_render_word_label_changes_the_lower_left_only_and_is_left_out_without_room() -> None:
    panel = Panel("dog", spot(2, 11), 0.87)
    plain, tagged = (
        np.asarray(render_word(gray(400, 300), panel, with_label=label)) for label in (False, True)
    )
    changed = (plain != tagged).any(axis=2)
    assert changed[200:, :200].any()
    assert not changed[:200].any()
    assert not changed[:, 200:].any()
    narrow = [
        np.asarray(render_word(gray(40, 300), panel, with_label=label)) for label in (False, True)
    ]
    assert (narrow[0] == narrow[1]).all()


def test_render_word_leaves_the_given_image_and_map_untouched() -> None:
    image = gray(200, 100)
    alpha = spot(3, 3)
    render_word(image, Panel("dog", alpha, 0.5))
    assert (np.asarray(image) == 128).all()
    np.testing.assert_array_equal(alpha, spot(3, 3))


# --- render_grid ----


@pytest.mark.parametrize("count", [0, 1, 2, 7, 20, 50])
@pytest.mark.parametrize("size", [(640, 480), (3000, 150), (150, 3000), (60_000, 16), (16, 16)])
def test_render_grid_any_count_and_shape_gives_a_bounded_sheet(
    count: int, size: tuple[int, int]
) -> None:
    panels = [Panel(f"word{number}", spot(number % 14, 5), number / 50) for number in range(count)]
    sheet = render_grid(gray(*size), "a caption", panels)
    assert sheet.mode == "RGB"
    assert 150 <= sheet.width <= 3500
    assert 80 <= sheet.height <= 3500
    assert sheet.width * sheet.height <= 6_000_000


def test_render_grid_panels_come_in_reading_order_after_the_image() -> None:
    image = gray(200, 200, level=200)
    cells = [(1, 1), (1, 12), (12, 1), (12, 12)]
    sheet = render_grid(image, "", [Panel("", spot(*cell)) for cell in cells])
    pixels = np.asarray(sheet).astype(int)
    content = np.abs(pixels - pixels[0, 0]).sum(axis=2) > 20
    # The panels' columns and rows are the runs of content; labels are empty but for that of the
    # image itself.
    columns, rows = _runs(content.sum(axis=0) > 60), _runs(content.sum(axis=1) > 200)
    boxes = [(left, top, right, bottom) for top, bottom in rows for left, right in columns][:5]
    assert len(boxes) == 5
    panels = [sheet.crop(box) for box in boxes]
    assert (np.asarray(panels[0])[20:-20, 20:-20] == 200).all()
    assert [peak_cell(brightness(panel), 14, 14) for panel in panels[1:]] == cells


def _runs(present: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], present.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


@pytest.mark.parametrize(
    "label",
    [
        "",
        " ",
        "naïve café Straße",
        "\u2018don\u2019t\u2019 \u2013 “quoted”…",
        "кот 猫 🐈 العربية",
        "a\nb\tc\0d\u200f",
        "\ud800",
        "supercalifragilisticexpialidocious" * 5,
    ],
)
def test_render_any_label_and_caption_does_not_crash_or_widen(label: str) -> None:
    panel = Panel(label, UNIFORM, 0.5)
    usual = render_grid(gray(160, 120), "short", [Panel("dog", UNIFORM, 0.5)])
    assert render_grid(gray(160, 120), label, [panel]).width == usual.width
    assert render_word(gray(400, 300), panel).size == (400, 300)


def test_render_grid_long_caption_is_cut_at_four_lines() -> None:
    panels = [Panel("dog", UNIFORM, 0.5)]
    four = render_grid(gray(160, 120), " ".join(["word"] * 400), panels)
    more = render_grid(gray(160, 120), " ".join(["word"] * 4000), panels)
    assert four.size == more.size


def test_render_grid_accents_are_folded_to_their_letters() -> None:
    accented, plain = (
        render_grid(gray(99, 99), text, [Panel(text, UNIFORM)]) for text in ("crème", "creme")
    )
    assert accented.tobytes() == plain.tobytes()


def test_render_grid_without_probability_shows_none() -> None:
    without = render_grid(gray(99, 99), "", [Panel("dog", UNIFORM)])
    with_one = render_grid(gray(99, 99), "", [Panel("dog", UNIFORM, 0.5)])
    assert without.size == with_one.size
    assert brightness(without).sum() < brightness(with_one).sum()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_render_image_of_another_mode_is_taken_as_rgb(mode: str) -> None:
    image = gray(64, 48).convert(mode)
    assert render_word(image, Panel("dog", UNIFORM)).mode == "RGB"
    assert render_grid(image, "a dog", [Panel("dog", UNIFORM)]).mode == "RGB"


# --- encode_png ----


def test_encode_png_round_trip_is_lossless() -> None:
    image = render_word(gray(120, 90), Panel("dog", spot(4, 4), 0.9))
    data = encode_png(image)
    with Image.open(io.BytesIO(data)) as decoded:
        assert decoded.format == "PNG"
        assert decoded.tobytes() == image.tobytes()
