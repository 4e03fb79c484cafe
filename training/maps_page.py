"""A page of maps, good and bad, chosen by rule: phrases of people's captions with the boxes they should lie in.

From measured looks (`training.grounding`) to sheets of pictures and the Markdown that shows them. Writes no files.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from models.captioner import TorchCaptioner
from models.preprocessing import decode_image
from models.rendering import Panel, render_word
from training.data import Photo
from training.entities import Box, GroundedCaption
from training.grounding import Grounding, Look
from training.maps import Annotate, annotator, cell_grid, forced_alphas, picture_paths

__all__ = ["MapsPage", "choose_looks", "render_maps_page"]

_EVERY = 100  # photos of the list
_EXTREMES = 6  # best, and as many worst
_SHARES = (0.05, 0.33)  # of the picture, covered by the boxes of a best or worst phrase
_COLUMNS = 3
_PANEL_PIXELS = 260
_STRIP_PIXELS = 24
_GAP_PIXELS = 10
_MAX_BYTES = 150_000
_QUALITIES = range(88, 20, -6)
_BACKGROUND, _INK = (18, 20, 26), (240, 241, 245)
_BOX_COLOURS = ((0, 0, 0, 3), (255, 255, 255, 1))  # a white line on a black one is seen on any picture
_TITLES = {
    "every": f"Every {_EVERY}th photo of the list: the first phrase that has a box",
    "best": f"The {_EXTREMES} phrases with the most of their maps inside their boxes",
    "worst": f"The {_EXTREMES} phrases with the least",
}
_RULE = (
    f"Chosen by rule, not by eye. Of every {_EVERY}th photo, in the order of the list, the first phrase of a person's "
    "caption that has a box. Then the best and the worst by the mass of the map inside the boxes, one phrase a photo, "
    f"among phrases whose boxes cover between {_SHARES[0]:.0%} and {_SHARES[1]:.0%} of the grid: a map can hardly miss "
    "a larger box, nor hit a smaller one. A phrase's map is the mean of its words' maps, each word read after the "
    "person's own words before it. Boxes are drawn in white."
)


@dataclass(frozen=True, slots=True)
class MapsPage:
    """The page's Markdown, and the JPEGs (each below 150 kB) that it shows, by file name."""

    text: str
    pictures: dict[str, bytes]


def choose_looks(measured: Grounding) -> dict[str, list[Look]]:
    """Choose "every", "best" and "worst" of measured looks by the page's rule."""
    firsts: dict[int, Look] = {}
    for look in measured.looks:
        firsts.setdefault(look.photo, look)
    low, high = _SHARES
    fair = [look for look in measured.looks if low <= look.share <= high]
    return {
        "every": [firsts[photo] for photo in range(_EVERY - 1, measured.photos, _EVERY) if photo in firsts],
        "best": _one_a_photo(sorted(fair, key=lambda look: -look.mass)),
        "worst": _one_a_photo(sorted(fair, key=lambda look: look.mass)),
    }


def render_maps_page(
    captioner: TorchCaptioner,
    photos: Sequence[Photo],
    grounding: Mapping[str, tuple[GroundedCaption, ...]],
    measured: Grounding,
    *,
    annotate: Annotate | None = None,
    pictures_folder: str = "images",
) -> MapsPage:
    """Render the page of what `measure_correctness` measured on these photos and captions.

    pictures_folder: where the page will find its JPEGs. Raises DataError where a photo cannot be read.
    """
    annotate, name = annotate or annotator(captioner), captioner.info.name
    lines = [f"# Maps of {name}", "", _RULE, ""]
    pictures = {}
    for kind, looks in choose_looks(measured).items():
        if not looks:
            continue
        panels = [_panel(captioner, photos[look.photo], grounding, look, annotate) for look in looks]
        labels = [f"{number}. {_phrase(photos, grounding, look)}" for number, look in enumerate(looks, start=1)]
        file = f"maps-{name}-{kind}.jpg"
        pictures[file] = _encode(_sheet(panels, labels))
        lines += [f"## {_TITLES[kind]}", "", f"![{_TITLES[kind]}]({pictures_folder}/{file})", ""]
        lines += [f"{number}. {_line(photos, grounding, look)}" for number, look in enumerate(looks, start=1)]
        lines.append("")
    return MapsPage("\n".join(lines), pictures)


def _one_a_photo(looks: Sequence[Look]) -> list[Look]:
    first: dict[int, Look] = {}
    for look in looks:
        first.setdefault(look.photo, look)
    return list(first.values())[:_EXTREMES]


def _caption(
    photos: Sequence[Photo], grounding: Mapping[str, tuple[GroundedCaption, ...]], look: Look
) -> tuple[str, ...]:
    return grounding[photos[look.photo].key][look.caption].tokens


def _phrase(photos: Sequence[Photo], grounding: Mapping[str, tuple[GroundedCaption, ...]], look: Look) -> str:
    return " ".join(_caption(photos, grounding, look)[look.phrase.start : look.phrase.end])


def _line(photos: Sequence[Photo], grounding: Mapping[str, tuple[GroundedCaption, ...]], look: Look) -> str:
    """The caption with the phrase in bold, the file, and the two numbers."""
    tokens = _caption(photos, grounding, look)
    start, end = look.phrase.start, look.phrase.end
    words = " ".join([*tokens[:start], f"**{' '.join(tokens[start:end])}**", *tokens[end:]])
    inside = f"{look.mass:.0%} of the map in {look.share:.0%} of the grid"
    return f"{words} (`{photos[look.photo].key}`, place {look.photo + 1}): {inside}"


def _panel(
    captioner: TorchCaptioner,
    photo: Photo,
    grounding: Mapping[str, tuple[GroundedCaption, ...]],
    look: Look,
    annotate: Annotate,
) -> Image.Image:
    """The photo under the mean map of the phrase's words, with the boxes."""
    grid = cell_grid(captioner)
    tokens = grounding[photo.key][look.caption].tokens
    alphas = forced_alphas(captioner, annotate([photo]), [[tokens]])[0][0]
    alpha = alphas[look.phrase.start : look.phrase.end].mean(dim=0).view(grid.rows, grid.columns)
    picture = decode_image(picture_paths([photo])[0].read_bytes()).picture
    scale = _PANEL_PIXELS / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    overlay = render_word(picture, Panel("", alpha.numpy(), None, grid.box), with_label=False)
    _draw_boxes(overlay, look.phrase.boxes)
    return overlay


def _draw_boxes(image: Image.Image, boxes: Sequence[Box]) -> None:
    draw = ImageDraw.Draw(image)
    for red, green, blue, width in _BOX_COLOURS:
        for left, top, right, bottom in boxes:
            corners = (left * image.width, top * image.height, right * image.width - 1, bottom * image.height - 1)
            draw.rectangle(corners, outline=(red, green, blue), width=width)


def _sheet(panels: Sequence[Image.Image], labels: Sequence[str]) -> Image.Image:
    """Lay panels out in rows, each with its label below."""
    columns, rows = min(_COLUMNS, len(panels)), math.ceil(len(panels) / _COLUMNS)
    across, down = _PANEL_PIXELS + _GAP_PIXELS, _PANEL_PIXELS + _STRIP_PIXELS + _GAP_PIXELS
    sheet = Image.new("RGB", (columns * across + _GAP_PIXELS, rows * down + _GAP_PIXELS), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for number, (panel, label) in enumerate(zip(panels, labels, strict=True)):
        left = _GAP_PIXELS + number % _COLUMNS * across
        top = _GAP_PIXELS + number // _COLUMNS * down
        sheet.paste(panel, (left + (_PANEL_PIXELS - panel.width) // 2, top + (_PANEL_PIXELS - panel.height) // 2))
        while font.getlength(label) > _PANEL_PIXELS:
            label = label.removesuffix("...")[:-1] + "..."
        draw.text((left, top + _PANEL_PIXELS + _STRIP_PIXELS - 6), label, font=font, fill=_INK, anchor="ls")
    return sheet


def _encode(sheet: Image.Image) -> bytes:
    """As JPEG, in the best quality that stays below the limit."""
    for quality in _QUALITIES:
        buffer = BytesIO()
        sheet.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() < _MAX_BYTES:
            break
    return buffer.getvalue()
