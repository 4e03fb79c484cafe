"""The pictures of the sixty things, as the bytes that somebody would upload. Knows no models."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from PIL import Image

from evaluation.report.made_images import ALTERED, MADE
from evaluation.report.things import Thing
from models.errors import ConfigError
from models.preprocessing import decode_image
from models.tokenizer import tokenize
from training.data.datasets import CaptionedImage, DataError

__all__ = ["Picture", "choose_everyday", "find_pictures"]

# So many captions of an everyday photo must say one of the thing's words.
_FEWEST = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """A thing with its picture.

    source: where it comes from, in words. data: the bytes of the file.
    """

    thing: Thing
    source: str
    data: bytes


def find_pictures(things: Sequence[Thing], everyday: Sequence[CaptionedImage]) -> list[Picture]:
    """Find or make the picture of each thing, in order.

    everyday: the photos to choose from, in their set's own order. Raises DataError where none of
    them shows a thing, and ConfigError where scikit-image is not installed.
    """
    chosen = choose_everyday(things, everyday)
    pictures = []
    for thing in things:
        if thing.words is not None:
            image = chosen[thing.name]
            source = f"COCO, `{image.key}`"
            data = _read(image)
        elif thing.file is not None:
            source = f"scikit-image, `{thing.file}`"
            data = _sample_file(thing.file)
        else:
            source = "made"
            data = _make(str(thing.made))
        pictures.append(Picture(thing, source, data))
    return pictures


def choose_everyday(
    things: Sequence[Thing], everyday: Sequence[CaptionedImage]
) -> dict[str, CaptionedImage]:
    """Choose the photo of each thing that has words: the first that is free, by the thing's name.

    Raises DataError where there is none.
    """
    chosen: dict[str, CaptionedImage] = {}
    left = list(everyday)
    for thing in things:
        if thing.words is None:
            continue
        image = next((each for each in left if _shows(each, thing.words)), None)
        if image is None:
            raise DataError(
                f"No everyday photo is left of which {_FEWEST} captions say "
                f"{' or '.join(thing.words)}, for {thing.name!r}; choose other words."
            )
        chosen[thing.name] = image
        left.remove(image)
    return chosen


def _shows(image: CaptionedImage, words: Sequence[str]) -> bool:
    said = [not set(words).isdisjoint(tokenize(caption)) for caption in image.captions]
    return sum(said) >= _FEWEST


def _read(image: CaptionedImage) -> bytes:
    if image.path is None:
        raise DataError(f"{image.key} has captions and no picture; only a photo can be captioned.")
    try:
        return image.path.read_bytes()
    except OSError as error:
        raise DataError(f"{image.path} cannot be read: {error}") from error


def _sample_file(name: str) -> bytes:
    """Read a file of scikit-image's data, without importing it."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise ConfigError("The sixty things need scikit-image, of the extra `dev`: install it.")
    return (Path(package.origin).parent / "data" / name).read_bytes()


def _make(name: str) -> bytes:
    """Draw a picture, or alter a photo, as PNG."""
    if name in MADE:
        return _png(MADE[name]())
    file, alter = ALTERED[name]
    return _png(alter(decode_image(_sample_file(file)).rgb))


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
