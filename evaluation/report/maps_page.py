"""A page of maps, good and bad, chosen by rule: phrases of people's captions with their boxes.

From measured phrases (`evaluation.measures.grounding`) to sheets of maps, without the images unless
they are asked for, and the Markdown that shows them; after them whole captions of images that are
free to show. Knows no scores but those that were measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evaluation.captioning import image_encoder, image_paths
from evaluation.measures.attention_maps import forced_alphas
from evaluation.measures.grounding import Grounding, PhraseScore
from evaluation.measures.maps import MapData
from evaluation.report.map_sheets import Card, CardPanel, draw_map, draw_sheet, encode_jpeg
from models.captioner import NetworkCaptioner
from models.errors import ImageError
from models.preprocessing import DecodeLimits, decode_image
from models.rendering import caption_panels, render_grid
from training.data.datasets import CaptionedImage, DataError

__all__ = ["EVERY", "MapsPage", "ShownModel", "choose_phrases", "render_maps_page"]

EVERY = 100
"""Of a list, every so many images are shown, from the first on: here and on the model cards."""

# The folder beside the page.
_IMAGES = "images"
# So many best phrases are shown, and as many worst.
_EXTREMES = 6
# Of the grid, the share that the boxes of a best or worst phrase cover.
_LEAST_SHARE = 0.05
_MOST_SHARE = 0.33
# Sheets are committed, and therefore small.
_SHEET_BYTES = 220_000
_EXAMPLE_BYTES = 150_000
# The longest side at which an example is read.
_EXAMPLE_PIXELS = 1024


@dataclass(frozen=True, slots=True)
class ShownModel:
    """A model whose maps are shown, and what `measure_correctness` measured of it."""

    captioner: NetworkCaptioner
    measured: Grounding


@dataclass(frozen=True, slots=True)
class MapsPage:
    """The page's Markdown, and by file name the JPEGs that it shows."""

    text: str
    images: dict[str, bytes]

    def write(self, folder: Path) -> list[Path]:
        """Write `maps.md`, and its images below `images`, into a folder. Gives the files."""
        files = {folder / "maps.md": self.text.encode()}
        for name, content in self.images.items():
            files[folder / _IMAGES / name] = content
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return list(files)


def choose_phrases(measured: Grounding) -> dict[str, list[int]]:
    """Choose "every", "best" and "worst" of the measured phrases by the page's rule.

    Gives places among them, from 0. "every" depends on the images and their phrases alone, not on
    what was measured.
    """
    phrases = measured.phrases
    firsts: dict[int, int] = {}
    for place, score in enumerate(phrases):
        firsts.setdefault(score.image, place)
    fair = [
        place for place, score in enumerate(phrases) if _LEAST_SHARE <= score.share <= _MOST_SHARE
    ]
    best = sorted(fair, key=lambda place: -phrases[place].mass)
    worst = sorted(fair, key=lambda place: phrases[place].mass)
    return {
        "every": [firsts[image] for image in range(0, measured.images, EVERY) if image in firsts],
        "best": _one_an_image(best, measured),
        "worst": _one_an_image(worst, measured),
    }


def render_maps_page(
    shown: Sequence[ShownModel],
    data: MapData,
    examples: Sequence[Path] = (),
    *,
    with_images: bool = False,
) -> MapsPage:
    """Render the page of what `measure_correctness` measured on the test images of `data`.

    The models stand side by side; the best and worst phrases are those of the last one, which also
    captions the examples: images that may be shown. Those of `data` may not, unless with_images.
    Raises DataError where an image cannot be read, ValueError where the models were measured on
    different phrases.
    """
    _check_same_phrases(shown)
    names = [each.captioner.info.name for each in shown]
    last = shown[-1]
    titles = _titles(names[-1])
    lines = ["# Maps", "", _intro(names, data.names["correctness"], with_images=with_images), ""]
    images = {}
    for kind, places in choose_phrases(last.measured).items():
        if not places:
            continue
        cards = [
            _card(number, place, shown, data, with_images)
            for number, place in enumerate(places, start=1)
        ]
        file = f"maps-{kind}.jpg"
        images[file] = encode_jpeg(draw_sheet(cards), math.inf if with_images else _SHEET_BYTES)
        lines += _sheet_lines(titles[kind], file, cards)
    if examples:
        lines += [f"## Whole captions of `{names[-1]}`", ""]
        lines += ["Photos of scikit-image; a panel a word.", ""]
    for path in examples:
        file = f"maps-{path.stem}.jpg"
        caption, sheet = _draw_example(last.captioner, path)
        images[file] = encode_jpeg(sheet, _EXAMPLE_BYTES)
        lines += [f"![{caption}]({_IMAGES}/{file})", ""]
    return MapsPage("\n".join(lines), images)


def _check_same_phrases(shown: Sequence[ShownModel]) -> None:
    first, *others = (
        [(score.image, score.caption, score.phrase) for score in each.measured.phrases]
        for each in shown
    )
    if any(other != first for other in others):
        raise ValueError("models side by side are measured on the same phrases")


def _sheet_lines(title: str, file: str, cards: Sequence[Card]) -> list[str]:
    """Write the heading, the sheet, and the sheet in words."""
    lines = [f"## {title}", "", f"![{title}]({_IMAGES}/{file})", ""]
    lines += ['<details markdown="1"><summary>In words</summary>', ""]
    lines += [_card_line(card) for card in cards]
    return [*lines, "", "</details>", ""]


def _titles(name: str) -> dict[str, str]:
    return {
        "every": f"Every {EVERY}th photo of the list, from the first on",
        "best": f"The {_EXTREMES} phrases with the most of `{name}`'s map inside their boxes",
        "worst": f"The {_EXTREMES} phrases with the least",
    }


def _intro(names: Sequence[str], set_name: str, *, with_images: bool) -> str:
    """Say what is shown, and by which rule it was chosen."""
    models = " and ".join(f"`{name}`" for name in names)
    verb = "looks" if len(names) == 1 else "look"
    ground = "plain gray in place of the photo, which may not be passed on"
    if with_images:
        ground = "the photo"
    return (
        f"Where {models} {verb} for phrases of people's captions of {set_name}: bright is where "
        "the map is high (contrast is stretched), white are the boxes that the phrase stands for, "
        f"under it {ground}. A phrase's map is the mean of its words' maps, each word read after "
        "the person's own words before it. Made by `glimpse-train maps`; `--with-photos FOLDER` "
        "puts the same sheets with their photos there, for those who have them.\n\n"
        f"Chosen by rule, not by eye. Of every {EVERY}th photo of the list, from the first on, the "
        "first phrase that has a box, whatever the maps. Then the best and the worst by how much "
        f"of the map of `{names[-1]}` lies inside the boxes, one phrase a photo, among phrases "
        f"whose boxes cover between {_LEAST_SHARE:.0%} and {_MOST_SHARE:.0%} of the grid: a map "
        "can hardly miss larger boxes, nor hit smaller ones."
    )


def _one_an_image(places: Sequence[int], measured: Grounding) -> list[int]:
    """Keep the first phrase of each image, of so many images as are shown."""
    first: dict[int, int] = {}
    for place in places:
        first.setdefault(measured.phrases[place].image, place)
    return list(first.values())[:_EXTREMES]


def _card(
    number: int, place: int, shown: Sequence[ShownModel], data: MapData, with_images: bool
) -> Card:
    """Draw the maps of one phrase, of each model."""
    score = shown[0].measured.phrases[place]
    image = data.test[score.image]
    words = data.grounding[image.key][score.caption].tokens
    panels = tuple(
        _panel(each, each.measured.phrases[place], image, words, with_images) for each in shown
    )
    covered = f"photo {score.image + 1}, boxes cover {score.share:.0%} of the grid"
    return Card(number, words, score.phrase.start, score.phrase.end, panels, (covered, image.key))


def _panel(
    shown: ShownModel,
    score: PhraseScore,
    image: CaptionedImage,
    words: Sequence[str],
    with_images: bool,
) -> CardPanel:
    """Draw the mean map of the phrase's words."""
    captioner = shown.captioner
    grid = captioner.grid
    annotations = image_encoder(captioner)([image])
    alphas = forced_alphas(captioner, annotations, [[words]])[0][0]
    phrase = score.phrase
    alpha = alphas[phrase.start : phrase.end].mean(dim=0).view(grid.rows, grid.columns)
    (path,) = image_paths([image])
    rgb = decode_image(path.read_bytes()).rgb
    ground = rgb if with_images else rgb.size
    drawn = draw_map(ground, alpha.numpy(), grid.box, phrase.boxes)
    return CardPanel(drawn, captioner.info.name, f"{score.mass:.0%} inside")


def _card_line(card: Card) -> str:
    """Write a card in words: the caption with the phrase in bold, and the numbers."""
    phrase = " ".join(card.words[card.start : card.end])
    caption = " ".join([*card.words[: card.start], f"**{phrase}**", *card.words[card.end :]])
    inside = ", ".join(f"{panel.name} {panel.remark}" for panel in card.panels)
    return f"{card.number}. {caption}: {inside} ({'; '.join(card.remarks)})"


def _draw_example(captioner: NetworkCaptioner, path: Path) -> tuple[str, Image.Image]:
    """Caption an image as the service does: the text, and the sheet with a panel a word."""
    try:
        data = path.read_bytes()
        prepared = captioner.prepare(data, DecodeLimits())
        rgb = decode_image(data, side_pixels=_EXAMPLE_PIXELS).rgb
    except (ImageError, OSError) as error:
        raise DataError(f"{path} cannot be captioned: {error}") from error
    (caption,) = captioner.caption([prepared], captioner.info.config.decoding)
    text = caption.best.text
    return text, render_grid(rgb, text, caption_panels(caption))
