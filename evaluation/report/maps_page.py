"""A page of maps, good and bad, chosen by rule: phrases of people's captions with the boxes they
should lie in.

From measured looks (`evaluation.measures.grounding`) to sheets of maps, without the photos unless
they are asked for, and the Markdown that shows them; after them whole captions on photos that are
free to show.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evaluation.measures.attention_maps import annotator, forced_alphas, image_paths
from evaluation.measures.grounding import Grounding, PhraseScore
from evaluation.report.map_sheets import Card, CardPanel, draw_map, draw_sheet, encode_jpeg
from evaluation.results import MapData
from models.captioner import NetworkCaptioner
from models.errors import ImageError
from models.preprocessing import DecodeLimits, decode_image
from models.rendering import Panel, render_grid
from training.data.datasets import CaptionedImage, DataError

__all__ = ["EVERY", "MapsPage", "Shown", "choose_looks", "render_maps_page"]

_PICTURES = "images"  # the folder beside the page
EVERY = (
    100  # photos of the list, from the first on: those that are shown, here and on the model cards
)
_EXTREMES = 6  # best, and as many worst
_SHARES = (0.05, 0.33)  # of the picture, covered by the boxes of a best or worst phrase
_SHEET_BYTES, _EXAMPLE_BYTES = 220_000, 150_000  # at most: they are committed
_EXAMPLE_PIXELS = 1024  # the longest side at which an example is read


@dataclass(frozen=True, slots=True)
class Shown:
    """A model whose maps are shown, and what `measure_correctness` measured of it."""

    captioner: NetworkCaptioner
    measured: Grounding


@dataclass(frozen=True, slots=True)
class MapsPage:
    """The page's Markdown, and by file name the JPEGs that it shows."""

    text: str
    pictures: dict[str, bytes]

    def write(self, folder: Path) -> list[Path]:
        """Write `maps.md` and its pictures, below `images`, into a folder: which files."""
        pages = {folder / "maps.md": self.text.encode()}
        pages |= {folder / _PICTURES / name: content for name, content in self.pictures.items()}
        for path, content in pages.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return list(pages)


def choose_looks(measured: Grounding) -> dict[str, list[int]]:
    """Choose "every", "best" and "worst" of measured looks by the page's rule: places among them,
    from 0.

    "every" depends on the photos and their phrases alone, not on what was measured.
    """
    firsts: dict[int, int] = {}
    for place, look in enumerate(measured.looks):
        firsts.setdefault(look.photo, place)
    low, high = _SHARES
    fair = [place for place, look in enumerate(measured.looks) if low <= look.share <= high]
    return {
        "every": [firsts[photo] for photo in range(0, measured.photos, EVERY) if photo in firsts],
        "best": _one_a_photo(sorted(fair, key=lambda place: -measured.looks[place].mass), measured),
        "worst": _one_a_photo(sorted(fair, key=lambda place: measured.looks[place].mass), measured),
    }


def render_maps_page(
    shown: Sequence[Shown],
    data: MapData,
    examples: Sequence[Path] = (),
    *,
    with_photos: bool = False,
) -> MapsPage:
    """Render the page of what `measure_correctness` measured on the test photos of `data`, the
    models side by side.

    The last of the models is the one whose best and worst are chosen, and which captions the
    examples: photos that may be shown. Those of `data` are not, unless with_photos. Raises
    DataError where a photo cannot be read, ValueError where the models were measured on different
    phrases.
    """
    phrases = {
        tuple((look.photo, look.caption, look.phrase) for look in each.measured.looks)
        for each in shown
    }
    if len(phrases) != 1:
        raise ValueError("models side by side are measured on the same phrases")
    names, last = [each.captioner.info.name for each in shown], shown[-1]
    titles = _titles(names[-1])
    lines = ["# Maps", "", _intro(names, data.names["correctness"], with_photos=with_photos), ""]
    pictures = {}
    for kind, places in choose_looks(last.measured).items():
        if not places:
            continue
        cards = [
            _card(n, place, shown, data, with_photos) for n, place in enumerate(places, start=1)
        ]
        file = f"maps-{kind}.jpg"
        pictures[file] = encode_jpeg(draw_sheet(cards), math.inf if with_photos else _SHEET_BYTES)
        lines += [f"## {titles[kind]}", "", f"![{titles[kind]}]({_PICTURES}/{file})", ""]
        lines += [
            "<details><summary>In words</summary>",
            "",
            *map(_line, cards),
            "",
            "</details>",
            "",
        ]
    if examples:
        lines += [
            f"## Whole captions of `{names[-1]}`",
            "",
            "Photos of scikit-image; a panel a word.",
            "",
        ]
    for path in examples:
        file = f"maps-{path.stem}.jpg"
        caption, sheet = _example(last.captioner, path)
        pictures[file] = encode_jpeg(sheet, _EXAMPLE_BYTES)
        lines += [f"![{caption}]({_PICTURES}/{file})", ""]
    return MapsPage("\n".join(lines), pictures)


def _titles(name: str) -> dict[str, str]:
    return {
        "every": f"Every {EVERY}th photo of the list, from the first on",
        "best": f"The {_EXTREMES} phrases with the most of `{name}`'s map inside their boxes",
        "worst": f"The {_EXTREMES} phrases with the least",
    }


def _intro(names: Sequence[str], set_name: str, *, with_photos: bool) -> str:
    """Say what is shown, and by which rule it was chosen."""
    models = " and ".join(f"`{name}`" for name in names)
    ground = (
        "the photo"
        if with_photos
        else "plain gray in place of the photo, which may not be passed on"
    )
    return (
        f"Where {models} look{'s' if len(names) == 1 else ''} for phrases of people's captions of "
        f"{set_name}: bright "
        "is where the map is high (contrast is stretched), white are the boxes that the phrase "
        "stands for, under it "
        f"{ground}. A phrase's map is the mean of its words' maps, each word read after the "
        "person's own words before "
        "it. Made by `glimpse-train maps`; `--with-photos FOLDER` puts the same sheets with their "
        "photos there, "
        "for those who have them.\n\nChosen by rule, not by eye. "
        f"Of every {EVERY}th photo of the list, from the first on, the first phrase that has a "
        "box, whatever the maps. "
        "Then the best and the worst by how much of the map of "
        f"`{names[-1]}` lies inside the boxes, one phrase a photo, among phrases whose boxes cover "
        "between "
        f"{_SHARES[0]:.0%} and {_SHARES[1]:.0%} of the grid: a map can hardly miss larger boxes, "
        "nor hit smaller ones."
    )


def _one_a_photo(places: Sequence[int], measured: Grounding) -> list[int]:
    first: dict[int, int] = {}
    for place in places:
        first.setdefault(measured.looks[place].photo, place)
    return list(first.values())[:_EXTREMES]


def _card(
    number: int, place: int, shown: Sequence[Shown], data: MapData, with_photos: bool
) -> Card:
    """Draw the maps of one phrase, of each model."""
    look = shown[0].measured.looks[place]
    photo = data.test[look.photo]
    words = data.grounding[photo.key][look.caption].tokens
    panels = tuple(
        _panel(each, each.measured.looks[place], photo, words, with_photos) for each in shown
    )
    remarks = f"photo {look.photo + 1}, boxes cover {look.share:.0%} of the grid", photo.key
    return Card(number, words, look.phrase.start, look.phrase.end, panels, remarks)


def _panel(
    shown: Shown, look: PhraseScore, photo: CaptionedImage, words: Sequence[str], with_photos: bool
) -> CardPanel:
    """Draw the mean map of the phrase's words."""
    captioner = shown.captioner
    grid = captioner.grid
    alphas = forced_alphas(captioner, annotator(captioner)([photo]), [[words]])[0][0]
    alpha = alphas[look.phrase.start : look.phrase.end].mean(dim=0).view(grid.rows, grid.columns)
    picture = decode_image(image_paths([photo])[0].read_bytes()).picture
    drawn = draw_map(
        picture if with_photos else picture.size, alpha.numpy(), grid.box, look.phrase.boxes
    )
    return CardPanel(drawn, captioner.info.name, f"{look.mass:.0%} inside")


def _line(card: Card) -> str:
    """A card in words: the caption with the phrase in bold, and the numbers."""
    before, phrase, after = (
        card.words[slice(*ends)]
        for ends in ((card.start,), (card.start, card.end), (card.end, None))
    )
    caption = " ".join([*before, f"**{' '.join(phrase)}**", *after])
    inside = ", ".join(f"{panel.name} {panel.remark}" for panel in card.panels)
    return f"{card.number}. {caption}: {inside} ({'; '.join(card.remarks)})"


def _example(captioner: NetworkCaptioner, path: Path) -> tuple[str, Image.Image]:
    """Caption a photo as the service does: the text, and the sheet with a panel a word."""
    try:
        data = path.read_bytes()
        prepared = captioner.prepare(data, DecodeLimits())
        picture = decode_image(data, side_pixels=_EXAMPLE_PIXELS).picture
    except (ImageError, OSError) as error:
        raise DataError(f"{path} cannot be captioned: {error}") from error
    best = captioner.caption([prepared], captioner.info.config.decoding)[0].hypotheses[0]
    box = captioner.grid.box
    panels = [Panel(word.text, word.alpha, word.probability, box) for word in best.words]
    return best.text, render_grid(picture, best.text, panels)
