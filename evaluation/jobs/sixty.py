"""Caption the sixty things with a model, and write the page with the verdicts given by hand."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evaluation.jobs.bundles import Messages
from evaluation.report.contact_sheet import draw_contact_sheet
from evaluation.report.map_sheets import encode_jpeg
from evaluation.report.sixty_page import render_sixty
from evaluation.report.sixty_results import (
    SixtyResult,
    ThingResult,
    read_verdicts,
    write_sixty,
    write_verdicts,
)
from evaluation.report.thing_images import Picture, find_pictures
from evaluation.report.things import read_things
from models.captioner import NetworkCaptioner
from models.errors import ConfigError
from models.loading import load_served
from models.preprocessing import DecodeLimits, decode_image
from models.runtime.torch import Precision
from training.config import load_config
from training.data.datasets import CaptionedImage, read_dataset

__all__ = ["SIXTY_PAGE", "SixtyRequest", "caption_things", "verdicts_file", "write_sixty_page"]

SIXTY_PAGE = Path("docs/sixty.md")

_EVERYDAY = "everyday"
_DIGITS = 4
_THUMBNAIL_PIXELS = 110
_LARGE_PIXELS = 240
_SHEET_BYTES = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SixtyRequest:
    """Which model captions, and what is written.

    experiment: its dev set "everyday" is chosen from. output: the page; the captions lie beside it
    as JSON, the verdicts in a file of their own, the sheet in images/. photos_sheet: gets a large
    sheet of all pictures, to judge by, those that may not be passed on among them.
    """

    experiment: Path
    data_folder: Path
    weights_folder: Path
    model: str
    output: Path
    precision: Precision = "auto"
    photos_sheet: Path | None = None


def write_sixty_page(request: SixtyRequest, messages: Messages) -> None:
    """Caption, make places for verdicts that are missing, and write the page and its sheet.

    Raises GlimpseError where the model or a picture cannot be had.
    """
    pictures = find_pictures(read_things(), _read_everyday(request, messages))
    verdicts_path = verdicts_file(request.output)
    verdicts = read_verdicts(verdicts_path)
    captioner = load_served(request.weights_folder, request.model, precision=request.precision)
    result = caption_things(captioner, pictures)
    images = request.output.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    sheet = images / f"{request.output.stem}.jpg"
    sheet.write_bytes(_sheet(pictures, result, _THUMBNAIL_PIXELS, with_all=False))
    document = request.output.with_suffix(".json")
    write_sixty(document, result)
    write_verdicts(verdicts_path, verdicts, result.things)
    page = render_sixty(result, verdicts, sheet.relative_to(request.output.parent))
    request.output.write_text(page, encoding="utf-8")
    messages.say_written([request.output, document, verdicts_path, sheet])
    if request.photos_sheet is not None:
        large = _sheet(pictures, result, _LARGE_PIXELS, with_all=True)
        request.photos_sheet.write_bytes(large)
        messages.say_written([request.photos_sheet])
    left = result.counts(verdicts)["not judged yet"]
    if left:
        messages.warn(
            f"{left} captions are not judged yet: say what is to be said in {verdicts_path}, and "
            "run this again."
        )


def verdicts_file(page: Path) -> Path:
    """Say where the verdicts of a page lie."""
    return page.with_name(f"{page.stem}-verdicts.json")


def caption_things(captioner: NetworkCaptioner, pictures: list[Picture]) -> SixtyResult:
    """Caption each picture by itself, as the service does an upload."""
    options = captioner.info.config.decoding
    found = []
    for picture in pictures:
        prepared = captioner.prepare(picture.data, DecodeLimits())
        (caption,) = captioner.caption([prepared], options)
        found.append(
            ThingResult(
                name=picture.thing.name,
                kind=picture.thing.kind,
                source=picture.source,
                caption=caption.best.text,
                confidence=round(caption.best.confidence, _DIGITS),
            )
        )
    return SixtyResult(model=captioner.info.name, digest=captioner.info.digest, things=tuple(found))


def _read_everyday(request: SixtyRequest, messages: Messages) -> list[CaptionedImage]:
    config = load_config(request.experiment, request.data_folder)
    named = [dataset for dataset in config.dev if dataset.name == _EVERYDAY]
    if not named:
        raise ConfigError(
            f"{request.experiment} has no dev set named {_EVERYDAY!r}, of which photos are chosen."
        )
    images, report = read_dataset(named[0])
    if report.problems:
        messages.warn(report.summary())
    return images


def _sheet(
    pictures: list[Picture], result: SixtyResult, side_pixels: int, *, with_all: bool
) -> bytes:
    """Draw the pictures by their numbers; all of them have their captions below."""
    cells: list[tuple[str, Image.Image]] = []
    for number, (picture, thing) in enumerate(zip(pictures, result.things, strict=True), start=1):
        if with_all or picture.thing.may_be_shown:
            image = decode_image(picture.data, side_pixels=side_pixels).rgb
            cells.append((f"{number} {thing.caption}" if with_all else str(number), image))
    sheet = draw_contact_sheet(cells, side_pixels)
    return encode_jpeg(sheet, float("inf") if with_all else _SHEET_BYTES)
