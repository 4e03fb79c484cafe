"""What counts as an image's main object, and that people name it."""

import math
from pathlib import Path

import pytest

from evaluation.metrics.main_object import human_agreement, main_object_named, main_objects
from training.data.datasets import DatasetConfig, read_dataset

DOGS = [
    "A dog runs.",
    "The dog is running.",
    "A brown dog on grass.",
    "Dogs outside.",
    "An animal by a tree.",
]


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        (DOGS, {"dog"}),
        (["A dog with a ball.", *DOGS[1:]], {"dog"}),  # the ball is named once
        (["Two cats.", "A dog.", *DOGS[2:]], set()),  # three of five
        (["A cat and a dog."] * 5, {"cat", "dog"}),
        (["A cat and a dog."] * 4 + ["A cat."], {"cat"}),
        (["A dog and a dog.", "A dog."], {"dog"}),
        (["A dog."], set()),  # one person alone
        (["Clouds.", "The sky."], set()),
        ([], set()),
    ],
)
def test_main_objects_are_what_four_fifths_of_the_references_name_most(
    references: list[str], expected: set[str]
) -> None:
    assert main_objects(references) == expected


def test_main_object_named_images_without_one_do_not_count() -> None:
    references = [DOGS, ["Clouds.", "The sky."], DOGS, ["A cat and a dog."] * 5]
    score = main_object_named(
        references, ["Two puppies play.", "A dog.", "A cat.", "A cat asleep."]
    )
    assert score.value == pytest.approx(2 / 3)
    assert score.statistics.sum(axis=0).tolist() == [2.0, 3.0]
    assert math.isnan(score.per_image[1])
    assert [score.per_image[i] for i in (0, 2, 3)] == [1.0, 0.0, 1.0]


def test_main_object_named_no_image_has_one_gives_nan() -> None:
    assert math.isnan(main_object_named([["Clouds.", "The sky."]], ["A dog."]).value)


def test_human_agreement_leaves_the_caption_itself_out() -> None:
    score = human_agreement([DOGS])
    counted = score.statistics[:, 1].tolist()
    assert counted == [0.0, 0.0, 0.0, 0.0, 1.0]  # only the last one's others all say dog
    assert score.value == 0.0


def test_human_agreement_on_everyday_images_is_nearly_complete(
    shared_data: Path, repository: Path
) -> None:
    """By this definition people pass, so that what a model lacks is the model's."""
    keys = repository / "training" / "configs" / "everyday-dev.txt"
    everyday = DatasetConfig(
        name="everyday",
        kind="coco",
        root=shared_data / "coco-sample",
        split="all",
        include_keys_file=keys,
    )
    images, _ = read_dataset(everyday)
    references = [image.captions for image in images]
    assert sum(map(bool, map(main_objects, references))) > 0.75 * len(images)
    assert 0.94 <= human_agreement(references).value <= 0.98
