"""Whether maps lie on what words name: exact on toys, and better than chance on the shipped
model."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluation.captioning import CachedEncoder, image_encoder
from evaluation.measures.attention_maps import (
    centered_gaussian,
    centers_inside,
    forced_alphas,
    peak_inside,
)
from evaluation.measures.grounding import (
    Grounding,
    PhraseScore,
    measure_correctness,
    measure_pointing,
    read_objects,
)
from models.array_features import Features
from models.bundles.checkpoint import Checkpoint, load_checkpoint
from models.captioner import NetworkCaptioner
from models.features import ImageFeatures
from models.geometry import Box, CellGrid
from models.loading import build_captioner
from models.tokenizer import Vocabulary
from tests.unit.toys import save_tiny_bundle
from training.data.datasets import CaptionedImage, DatasetConfig, read_dataset
from training.data.flickr30k_entities import GroundedCaption, Phrase, read_entities
from training.data.layouts import DataError

WHOLE = Box(0.0, 0.0, 1.0, 1.0)
LEFT = Box(0.0, 0.0, 0.5, 1.0)
GRID = CellGrid(14, 14)
CAPTIONS = ("a red dog sits on grass", "a cat", "a zebra runs")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., NetworkCaptioner]:
    def build_tiny(**fields: object) -> NetworkCaptioner:
        folder = save_tiny_bundle(tmp_path_factory.mktemp("weights") / "tiny", **fields)
        return build_captioner(load_checkpoint(folder), precision="float32")

    return build_tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """What the captioner is built from, for plain recomputations."""
    return load_checkpoint(save_tiny_bundle(tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture(scope="module")
def captioner(checkpoint: Checkpoint) -> NetworkCaptioner:
    return build_captioner(checkpoint, precision="float32")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[CaptionedImage]:
    """Five noisy images of several sizes; the captioner takes 16 at a time."""
    folder = tmp_path_factory.mktemp("photos")
    drawn = []
    for number in range(5):
        size = (60 + 20 * number, 90)
        noise = torch.randint(
            256, (*size[::-1], 3), generator=torch.Generator().manual_seed(number)
        )
        Image.fromarray(noise.to(torch.uint8).numpy()).save(folder / f"{number}.png")
        drawn.append(CaptionedImage(f"{number}.png", folder / f"{number}.png", ()))
    return drawn


def grounded(text: str, *phrases: Phrase) -> GroundedCaption:
    return GroundedCaption(tuple(text.split()), phrases)


def everywhere(
    images: Sequence[CaptionedImage], *captions: GroundedCaption
) -> dict[str, tuple[GroundedCaption, ...]]:
    return {image.key: captions for image in images}


def test_grid_of_the_captioner_is_that_of_its_encoder(
    captioner: NetworkCaptioner, shipped: Callable[..., NetworkCaptioner]
) -> None:
    assert captioner.grid == CellGrid(14, 14, WHOLE)
    rows, columns, box = shipped("soft-attention").grid
    assert (rows, columns) == (14, 14)
    assert box == pytest.approx((13.5 / 251, 13.5 / 251, 237.5 / 251, 237.5 / 251))


def test_centered_gaussian_is_a_gaussian_of_a_quarter_of_the_image() -> None:
    gaussian = centered_gaussian(CellGrid(2, 4)).view(2, 4)
    assert float(gaussian.sum()) == pytest.approx(1.0)
    assert torch.allclose(gaussian, gaussian.flip(0))
    assert torch.allclose(gaussian, gaussian.flip(1))
    # the centers of a row lie 0.375 and 0.125 from the middle, 1.5 and 0.5 standard deviations
    assert float(gaussian[0, 1] / gaussian[0, 0]) == pytest.approx(
        torch.e ** ((1.5**2 - 0.5**2) / 2)
    )


def test_centered_gaussian_center_is_the_images_not_the_grids() -> None:
    gaussian = centered_gaussian(CellGrid(1, 10, Box(0.0, 0.0, 0.5, 1.0)))
    assert int(gaussian.argmax()) == 9


def test_centers_inside_cells_whose_center_is_in_any_box() -> None:
    inside = centers_inside([Box(0.0, 0.0, 0.4, 0.3), Box(0.9, 0.6, 1.0, 1.0)], CellGrid(2, 4))
    assert inside.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_peak_inside_of_equal_peaks_their_share_counts() -> None:
    inside = torch.tensor([1.0, 1.0, 0.0, 0.0])
    alphas = torch.tensor(
        [[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.25] * 4, [0.5, 0.0, 0.5, 0.0]]
    )
    assert peak_inside(alphas, inside).tolist() == [1.0, 0.0, 0.5, 0.5]


def test_forced_alphas_batch_equals_single_captions_and_repeated_steps(
    captioner: NetworkCaptioner, checkpoint: Checkpoint
) -> None:
    features = ImageFeatures(torch.randn(2, 196, 64, generator=torch.Generator().manual_seed(0)))
    captions = [[text.split() for text in CAPTIONS], [CAPTIONS[1].split()]]
    maps = forced_alphas(captioner, features, captions)
    assert [[len(alphas) for alphas in each] for each in maps] == [[6, 2, 3], [2]]
    network = checkpoint.model
    decoder = network.decoder
    for image, each in enumerate(captions):
        for alphas, tokens in zip(maps[image], each, strict=True):
            alone = forced_alphas(captioner, features[image : image + 1], [[tokens]])[0][0]
            assert torch.allclose(alphas, alone, atol=1e-6)
            assert torch.allclose(alphas.sum(dim=1), torch.ones(len(tokens)))
            words = checkpoint.vocabulary.encode(" ".join(tokens))
            state = decoder.init_state(features.annotations[image : image + 1])
            last = Vocabulary.bos_id
            for word, alpha in zip(words, alphas, strict=True):
                step = decoder.step(torch.tensor([last]), state)
                assert torch.allclose(step.alpha[0], alpha, atol=1e-6)
                state = step.state
                last = word


def test_forced_alphas_of_the_models_own_caption_are_those_it_was_found_with(
    captioner: NetworkCaptioner,
) -> None:
    features = ImageFeatures(torch.randn(1, 196, 64, generator=torch.Generator().manual_seed(1)))
    (caption,) = captioner.caption_features(features, captioner.info.config.decoding)
    words = caption.best.words
    ((alphas,),) = forced_alphas(captioner, features, [[[word.text for word in words]]])
    found = torch.from_numpy(np.stack([word.alpha for word in words])).flatten(1)
    assert torch.allclose(alphas, found, atol=1e-6)


def test_forced_alphas_without_captions_are_none(captioner: NetworkCaptioner) -> None:
    assert forced_alphas(captioner, ImageFeatures(torch.randn(2, 196, 64)), [[], []]) == [[], []]


def test_remembered_image_is_encoded_once(
    captioner: NetworkCaptioner, images: list[CaptionedImage]
) -> None:
    encoded: list[str] = []
    annotate = image_encoder(captioner)

    def counted(batch: Sequence[CaptionedImage]) -> Features:
        encoded.extend(image.key for image in batch)
        return annotate(batch)

    recall = CachedEncoder(counted)
    recall(images[:3])
    again = recall([images[4], images[0]])
    assert encoded == ["0.png", "1.png", "2.png", "4.png"]
    expected = annotate([images[4], images[0]]).annotations
    assert torch.allclose(again.annotations, expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"attention": "dot-product"},
        {"attention": "cosine"},
        {"attention": "hard"},
        {"decoder": "nic"},
        {"decoder": "lrcn-factored"},
        {"decoder": "transformer", "layers": 1, "heads": 2},
    ],
    ids=lambda fields: (
        next(reversed(fields.values()), "additive") if isinstance(fields, dict) else fields
    ),
)
def test_measure_correctness_any_decoder_has_all_its_mass_in_the_whole_and_shares_it_between_halves(
    fields: dict[str, object], build: Callable[..., NetworkCaptioner], images: list[CaptionedImage]
) -> None:
    own = build(**fields)
    right = Box(0.5, 0.0, 1.0, 1.0)
    phrases = Phrase(0, 3, (WHOLE,)), Phrase(0, 3, (LEFT,)), Phrase(0, 3, (right,))
    measured = measure_correctness(own, images, everywhere(images, grounded(CAPTIONS[0], *phrases)))
    whole, left, other = (measured.phrases[number::3] for number in range(3))
    assert all(score.mass == pytest.approx(1.0, abs=1e-5) for score in whole)
    assert all(score.peak == 1.0 for score in whole)
    for one, two in zip(left, other, strict=True):
        assert one.mass + two.mass == pytest.approx(1.0, abs=1e-5)
        assert one.peak + two.peak == pytest.approx(1.0)
    if fields.get("decoder") in ("nic", "lrcn-factored"):  # their maps are even
        assert all(score.mass == pytest.approx(score.share) for score in left)
        assert all(score.peak == pytest.approx(score.even_peak) for score in left)
    if fields.get("attention") == "hard":
        # Three words, one cell each.
        assert {round(3 * score.mass, 4) for score in left} <= {0, 1, 2, 3}


def test_measure_correctness_phrase_is_the_mean_over_its_words_and_the_best_of_them(
    captioner: NetworkCaptioner, images: list[CaptionedImage]
) -> None:
    box = Box(0.1, 0.2, 0.7, 0.6)
    captions = [grounded("a cat"), grounded(CAPTIONS[0], Phrase(1, 3, (box,)))]
    measured = measure_correctness(captioner, images, everywhere(images, *captions))
    alphas = forced_alphas(
        captioner, image_encoder(captioner)(images[2:3]), [[CAPTIONS[0].split()]]
    )[0][0][1:3]
    score = measured.phrases[2]
    masses = alphas @ torch.from_numpy(GRID.coverage([box]))
    peaks = peak_inside(alphas, centers_inside([box], GRID))
    assert (score.image, score.caption) == (2, 1)
    assert score.mass == pytest.approx(float(masses.mean()), abs=1e-6)
    assert score.best_word_mass == pytest.approx(float(masses.max()), abs=1e-6)
    assert (score.peak, score.last_word_peak) == (float(peaks.mean()), float(peaks[1]))


@given(
    left=st.floats(0, 0.9),
    top=st.floats(0, 0.9),
    width=st.floats(0.05, 1),
    height=st.floats(0.05, 1),
)
def test_even_maps_mass_is_the_area_of_the_box(
    left: float, top: float, width: float, height: float
) -> None:
    box = (left, top, min(left + width, 1.0), min(top + height, 1.0))
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert float(torch.from_numpy(GRID.coverage([box])).mean()) == pytest.approx(area, abs=1e-5)


def phrase_score(image: int, mass: float, **fields: float) -> PhraseScore:
    given_values = {"peak": mass, "gaussian_peak": 0.5, **fields}
    numbers = dict.fromkeys(PhraseScore._fields[3:], 0.0) | {"mass": mass} | given_values
    return PhraseScore(image, 0, Phrase(0, 1, (WHOLE,)), **numbers)


def test_grounding_scores_are_means_over_phrases_not_over_images() -> None:
    measured = Grounding(
        4, (phrase_score(0, 1.0), phrase_score(0, 1.0), phrase_score(0, 0.4), phrase_score(2, 0.0))
    )
    mass = measured.score("model", "mass")
    assert mass.value == pytest.approx(0.6)
    assert mass.statistics.tolist() == [[pytest.approx(2.4), 3], [0, 0], [0, 1], [0, 0]]
    assert measured.peak_ratio().value == pytest.approx(0.6 / 0.5)


def test_grounding_describe_is_json_and_its_intervals_hold_the_values() -> None:
    measured = Grounding(
        30, tuple(phrase_score(number, number / 30) for number in range(30)), without_box=2
    )
    described = json.loads(measured.describe("drawn").model_dump_json())
    mass = described["model"]["mass"]
    assert (described["photos"], described["looks"], described["without_box"]) == (30, 30, 2)
    assert mass["low"] < mass["value"] < mass["high"]
    assert set(described["model"]) > set(described["uniform"])
    assert set(described["gaussian"]) == {*described["uniform"], "cells_peak"}


def test_measure_correctness_center_box_belongs_to_the_gaussian(
    captioner: NetworkCaptioner, images: list[CaptionedImage]
) -> None:
    middle, corner = Box(0.3, 0.3, 0.7, 0.7), Box(0.0, 0.0, 0.4, 0.4)
    caption = grounded("a cat", Phrase(0, 2, (middle,)), Phrase(0, 2, (corner,)))
    first, second, *_ = measure_correctness(captioner, images, everywhere(images, caption)).phrases
    assert (first.gaussian_peak, second.gaussian_peak) == (1.0, 0.0)
    assert first.share == pytest.approx(second.share)
    assert first.gaussian_mass > first.share > second.gaussian_mass


def test_measure_correctness_image_that_is_not_grounded_or_has_no_box_is_a_data_error(
    captioner: NetworkCaptioner, images: list[CaptionedImage]
) -> None:
    with pytest.raises(DataError, match=r"0\.png is not among the grounded captions"):
        measure_correctness(captioner, images, {})
    with pytest.raises(DataError, match="no word has a box"):
        measure_correctness(captioner, images, everywhere(images, grounded("a cat")))
    with pytest.raises(DataError, match="no picture"):
        measure_correctness(captioner, [CaptionedImage("x", None, ())], {"x": ()})


def test_measure_pointing_words_that_name_a_boxed_object_are_looked_for_in_all_its_boxes(
    tmp_path: Path, images: list[CaptionedImage]
) -> None:
    # Whatever it says names an object.
    names = ("dog", "puppy", "pug", "hound", "cat", "kitten", "kitty", "cats")
    checkpoint = replace(
        load_checkpoint(save_tiny_bundle(tmp_path / "tiny")), vocabulary=Vocabulary(names)
    )
    captioner = build_captioner(checkpoint, precision="float32")
    captions = captioner.caption_features(
        image_encoder(captioner)(images), checkpoint.config.decoding
    )
    said = [[word.text for word in caption.best.words] for caption in captions]
    wanted = "dog" if any(word in names[:4] for words in said for word in words) else "cat"
    right = Box(0.5, 0.0, 1.0, 1.0)
    done: list[int] = []
    measured = measure_pointing(
        captioner,
        images,
        {image.key: {wanted: (LEFT, right)} for image in images[:3]},
        advance=done.append,
    )
    places = [
        (image, position)
        for image, words in enumerate(said)
        for position, word in enumerate(words)
        if (word in names[:4]) == (wanted == "dog")
    ]
    assert [(each.image, each.phrase.start) for each in measured.phrases] == [
        place for place in places if place[0] < 3
    ]
    assert measured.without_box == sum(map(len, said)) - len(measured.phrases)
    assert all(each.mass == pytest.approx(1.0, abs=1e-5) for each in measured.phrases)
    assert sum(done) == len(images)


def test_measure_pointing_nothing_named_is_a_data_error(
    captioner: NetworkCaptioner, images: list[CaptionedImage]
) -> None:
    with pytest.raises(DataError, match="no word has a box"):
        measure_pointing(captioner, images, {})


def test_read_objects_boxes_are_fractions_by_file_and_category(tmp_path: Path) -> None:
    document = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 200, "height": 100},
            {"id": 8, "file_name": "b.jpg"},
        ],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [20, 10, 40, 50]},
            {"image_id": 7, "category_id": 1, "bbox": [100, 0, 101, 100]},
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_objects(path) == {
        "a.jpg": {"dog": ((0.1, 0.1, 0.3, 0.6), (0.5, 0.0, 1.0, 1.0))},
        "b.jpg": {},
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"images": [], "categories": []}', '{"images": [3]}'])
def test_read_objects_another_layout_is_a_data_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="is not in COCO's layout"):
        read_objects(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_objects(tmp_path / "none.json")


def test_shipped_model_looks_at_what_it_names_more_than_chance(
    shared_data: Path, shipped: Callable[..., NetworkCaptioner]
) -> None:
    captioner = shipped("soft-attention")
    root = shared_data / "flickr8k"
    images, _ = read_dataset(DatasetConfig(name="dev", kind="flickr8k", root=root, split="dev"))
    grounding = read_entities(root / "entities.jsonl")
    measured = measure_correctness(captioner, images[:12], grounding)
    model = measured.score("model", "mass").value
    assert (
        model > measured.score("gaussian", "mass").value > measured.score("uniform", "mass").value
    )
    objects = read_objects(shared_data / "boxes" / "instances.json")
    boxed = [
        CaptionedImage(key, shared_data / "boxes" / "images" / key, ())
        for key in list(objects)[:12]
    ]
    pointed = measure_pointing(captioner, boxed, objects)
    assert pointed.score("model", "mass").value > pointed.score("uniform", "mass").value
