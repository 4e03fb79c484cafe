"""People's words for COCO's categories: what names which object, in one word or two, and what only
seems to."""

import json
from pathlib import Path

import pytest

from evaluation.metrics.coco_categories import CATEGORY_WORDS, categories_of
from models.tokenizer import tokenize


def named(caption: str) -> list[str]:
    return [category for _, category in categories_of(tokenize(caption))]


@pytest.mark.parametrize(
    ("caption", "categories"),
    [
        ("a man and two women ride horses", ["person", "person", "horse"]),
        ("Children play with puppies.", ["person", "dog"]),
        (
            "knives, mice, geese, oxen, calves and buses",
            ["knife", "mouse", "bird", "cow", "cow", "bus"],
        ),
        ("benches, sandwiches and a couch", ["bench", "sandwich", "couch"]),
        ("sheep beside a pair of skis and scissors", ["sheep", "skis", "scissors"]),
        ("the cat's face and the boys' hats", ["cat", "person"]),
        ("a hot dog next to a dog", ["hot dog", "dog"]),
        ("hot-dogs", ["hot dog"]),
        ("a teddy bear and a bear", ["teddy bear", "bear"]),
        ("two stuffed teddy bears", ["teddy bear"]),
        ("a stop sign by the traffic lights", ["stop sign", "traffic light"]),
        ("a glass of red wine", ["wine glass"]),
        ("a toilet bowl and a bowl", ["toilet", "bowl"]),
        ("a flat screen tv", ["tv"]),
        ("a passenger train", ["train"]),
        ("a baby elephant with its mother", ["elephant", "person"]),
        ("a baby in a bed", ["person", "bed"]),
        ("a dirt bike and a bike", ["motorcycle", "bicycle"]),
        ("a baseball bat and a tennis racquet", ["baseball bat", "tennis racket"]),
    ],
)
def test_categories_of_peoples_words_are_found(caption: str, categories: list[str]) -> None:
    assert named(caption) == categories


@pytest.mark.parametrize(
    "caption",
    [
        "an orange shirt",
        "wearing glasses",
        "waiting at a bus stop near the train tracks",
        "a ski lift up the ski slope",
        "a flower bed",
        "a bed of rice",
        "he ties his shoe",
        "a dog house and bird feeders",
        "toilet paper",
        "carpet, scar, battle, catch, doggerel",
        "",
    ],
)
def test_categories_of_other_things_are_none(caption: str) -> None:
    assert named(caption) == []


def test_categories_of_phrase_position_is_its_last_word() -> None:
    assert categories_of(["a", "hot", "dog", "by", "two", "parking", "meters"]) == [
        (2, "hot dog"),
        (6, "parking meter"),
    ]


@pytest.mark.parametrize("category", CATEGORY_WORDS)
def test_categories_of_every_listed_word_names_its_category(category: str) -> None:
    for word in CATEGORY_WORDS[category]:
        assert named(f"there is {word}") == [category]
        assert tokenize(word) == word.split()


def test_category_words_are_cocos_eighty_and_no_word_is_in_two() -> None:
    words = [word for each in CATEGORY_WORDS.values() for word in each]
    assert len(CATEGORY_WORDS) == 80
    assert len(set(words)) == len(words)


def test_category_words_categories_are_those_of_the_boxes(shared_data: Path) -> None:
    document = json.loads((shared_data / "boxes/instances.json").read_bytes())
    assert {category["name"] for category in document["categories"]} == set(CATEGORY_WORDS)
