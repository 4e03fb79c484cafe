"""The tagger: its classes and their words, and what its published weights find in photos."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from models.array_features import TAG_CLASSES, WORDS_A_CLASS, places_of_boxes
from models.caption import TagKind
from models.config import PreprocessConfig, TaggerConfig
from models.features import Tags
from models.geometry import Box, CellGrid
from models.preprocessing import decode_image, prepare_image
from models.tagging.classes import FIRST_CONCEPT, class_word_ids, tag_classes
from models.tagging.describe import describe_tags
from models.tagging.tagger import Tagger
from models.tokenizer import Vocabulary
from models.torchvision_compat import import_torchvision

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
GRID = CellGrid(14, 14)
SIDE = 416


@pytest.fixture(scope="module")
def tagger(tagger_tensors: dict[str, Tensor]) -> Tagger:
    tagger = Tagger(TaggerConfig(), GRID).eval()
    tagger.load_state_dict(tagger_tensors)
    return tagger


def pixels_of(image: Image.Image) -> Tensor:
    """The image as the tagger is given it, (1, 3, S, S)."""
    file = io.BytesIO()
    image.save(file, "PNG")
    decoded = decode_image(file.getvalue(), side_pixels=SIDE)
    prepared = prepare_image(
        decoded, PreprocessConfig(size_pixels=SIDE, mean=(0,) * 3, std=(1,) * 3)
    )
    return torch.from_numpy(prepared.pixels).unsqueeze(0)


def photo(name: str) -> Image.Image:
    """A free photo of scikit-image."""
    load: Callable[[], npt.NDArray[np.uint8]] = getattr(skimage.data, name)
    return Image.fromarray(load())


def found(tags: Tags) -> dict[str, float]:
    return {tag.name: tag.score for tag in describe_tags(tags).values()}


def test_classes_are_those_of_coco_and_imagenet_in_their_order() -> None:
    classes = tag_classes()

    assert len(classes) == TAG_CLASSES
    names = import_torchvision().models.MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    assert [each.name for each in classes[FIRST_CONCEPT:]] == list(names)
    assert [classes[number].name for number in (0, 16, 41, 79)] == [
        "person",
        "dog",
        "cup",
        "toothbrush",
    ]


def test_every_word_of_a_class_is_one_that_the_shipped_models_know() -> None:
    known = set(json.loads((WEIGHTS / "base" / "vocab.json").read_text(encoding="utf-8"))["words"])
    for tag_class in tag_classes():
        assert 1 <= len(tag_class.words) <= WORDS_A_CLASS, tag_class
        assert known.issuperset(tag_class.words), tag_class
        assert len(set(tag_class.words)) == len(tag_class.words), tag_class


def test_words_that_a_vocabulary_lacks_are_left_out() -> None:
    vocabulary = Vocabulary(["man", "cup", "person"])

    ids = class_word_ids(vocabulary)

    assert len(ids) == TAG_CLASSES
    assert ids[0] == [6, 4, 0, 0, 0, 0]  # person man
    assert ids[16] == [0] * WORDS_A_CLASS


@torch.inference_mode()
def test_tagger_finds_the_cup_of_coffee_and_the_cat(tagger: Tagger) -> None:
    coffee = tagger(pixels_of(photo("coffee"))).tags
    cat = tagger(pixels_of(photo("chelsea"))).tags

    assert found(coffee)["cup"] > 0.5
    assert found(coffee)["espresso"] > 0.5
    assert found(cat)["Egyptian cat"] > 0.5
    (cup,) = (each for each in describe_tags(coffee).values() if each.name == "cup")
    assert cup.kind is TagKind.OBJECT
    assert cup.box.left < 0.5 < cup.box.right
    assert cup.box.top < 0.5 < cup.box.bottom


@torch.inference_mode()
def test_places_of_tags_sum_to_1_where_they_are_there_and_are_zero_else(tagger: Tagger) -> None:
    sighting = tagger(pixels_of(photo("astronaut")))

    tags = sighting.tags
    assert tags.values.shape == (1, *tagger.tags_shape)
    assert sighting.maps.shape == (1, 196, tagger.feature_dim)
    present = tags.present.float()
    torch.testing.assert_close(tags.places.sum(dim=2), present, atol=1e-4, rtol=0)
    assert 0 < present.sum() < present.numel()


@torch.inference_mode()
def test_objects_lie_where_they_are_in_fractions_of_the_image_whatever_its_shape(
    tagger: Tagger,
) -> None:
    """Of a wide image the tagger sees a square, in which the cup is as narrow as it is tall."""
    canvas = Image.new("RGB", (900, 450), (120, 130, 120))
    cup = photo("coffee").crop((150, 0, 450, 330)).resize((270, 297))
    canvas.paste(cup, (585, 99))  # the cup is all of it but for a rim

    tags = tagger.find_objects(pixels_of(canvas))

    (box,) = (each.box for each in describe_tags(tags).values() if each.name == "cup")
    assert box == pytest.approx((0.65, 0.25, 0.95, 0.8), abs=0.08)
    assert box.left >= 0.62
    number = next(n for n, each in describe_tags(tags).items() if each.name == "cup")
    places = tags.places[0, number].view(14, 14)
    expected = places_of_boxes(np.array(box, dtype=np.float32), GRID).reshape(14, 14)
    torch.testing.assert_close(places, torch.from_numpy(expected), atol=1e-5, rtol=1e-4)
    assert float(places[:, 9:].sum()) > 0.9


@torch.inference_mode()
def test_tagger_that_is_to_find_no_objects_or_no_concepts_finds_none(
    tagger_tensors: dict[str, Tensor],
) -> None:
    blank = Tagger(TaggerConfig(max_objects=0, max_concepts=0), GRID).eval()
    blank.load_state_dict(tagger_tensors)

    sighting = blank(pixels_of(photo("coffee")))

    assert blank.tags_shape == (0, 202)
    assert sighting.tags.values.shape == (1, 0, 202)
    assert sighting.maps.abs().max() > 0
    assert describe_tags(sighting.tags) == {}


@pytest.mark.parametrize("side", ["left", "right"])
@torch.inference_mode()
def test_concept_lies_where_it_was_seen(tagger: Tagger, side: str) -> None:
    cat = photo("chelsea").resize((208, 208))
    canvas = Image.new("RGB", (SIDE, SIDE), (120, 130, 120))
    canvas.paste(cat, (0 if side == "left" else 208, 104))

    tags = tagger(pixels_of(canvas)).tags

    places = {each.name: place for place, each in describe_tags(tags).items()}
    (name,) = (name for name in places if name in ("Egyptian cat",))
    columns = tags.places[0, places[name]].view(14, 14).sum(dim=0)
    half = columns[:7] if side == "left" else columns[7:]
    assert float(half.sum()) > 0.6


@torch.inference_mode()
def test_image_is_tagged_alike_alone_and_in_a_batch(tagger: Tagger) -> None:
    pixels = torch.cat([pixels_of(photo(name)) for name in ("coffee", "chelsea")])

    together = tagger(pixels)

    for number in range(2):
        alone = tagger(pixels[number : number + 1])
        torch.testing.assert_close(
            alone.tags.values[0], together.tags.values[number], atol=1e-3, rtol=1e-3
        )


def test_describe_tags_leaves_the_absent_ones_out() -> None:
    tags = Tags.pack(
        torch.tensor([[41, 0, 80 + 967]]),
        torch.tensor([[0.75, 0.0, 0.5]]),
        torch.tensor([[[0.25, 0.0, 0.5, 1.0], [0.0] * 4, [0.0, 0.0, 1.0, 1.0]]]),
        torch.zeros(1, 3, 9),
    )

    described = describe_tags(tags)

    assert list(described) == [0, 2]
    cup, espresso = described.values()
    assert (cup.kind, cup.name, cup.score) == (TagKind.OBJECT, "cup", 0.75)
    assert cup.box == Box(0.25, 0.0, 0.5, 1.0)
    assert (espresso.kind, espresso.name) == (TagKind.CONCEPT, "espresso")
    assert describe_tags(None) == {}
