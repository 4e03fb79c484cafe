"""Flickr30k Entities: phrases brought to the decoder's tokens, and the share of cells in boxes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.geometry import Box
from models.tokenizer import tokenize
from training.data.datasets import DatasetConfig, read_dataset
from training.data.flickr30k_entities import GroundedCaption, Phrase, read_entities
from training.data.layouts import DataError

BOX = Box(0.1, 0.2, 0.6, 0.8)


def line(
    words: str = "A dog runs .",
    phrases: tuple[tuple[int, int, str], ...] = ((0, 2, "7"),),
    file: str = "1.jpg",
    boxes: dict[str, list[Box]] | None = None,
) -> dict[str, Any]:
    spans = [
        {"start": start, "end": end, "entity": entity, "types": ["other"]}
        for start, end, entity in phrases
    ]
    return {
        "file": file,
        "captions": [{"words": words.split(), "phrases": spans}],
        "boxes": {"7": [BOX]} if boxes is None else boxes,
    }


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., dict[str, tuple[GroundedCaption, ...]]]:
    def read_lines(*lines: dict[str, Any] | str) -> dict[str, tuple[GroundedCaption, ...]]:
        path = tmp_path / "entities.jsonl"
        texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
        return read_entities(path)

    return read_lines


def test_read_entities_phrase_is_in_tokens_and_without_box_left_out(
    read: Callable[..., Any],
) -> None:
    found = read(line("A dog runs down the street .", ((0, 2, "7"), (4, 6, "8"))))
    assert found == {
        "1.jpg": (
            GroundedCaption(("a", "dog", "runs", "down", "the", "street"), (Phrase(0, 2, (BOX,)),)),
        )
    }


@pytest.mark.parametrize(
    ("words", "span", "named"),
    [
        ('" Look " , says a man .', (5, 7), "a man"),
        ("the man 's hat is red", (0, 3), "the man's"),
        ("the man 's red hat", (3, 5), "red hat"),
        ("he does n't see a D.C. sign", (4, 7), "a d c sign"),
        ("a man , his T-Shirt", (3, 5), "his t-shirt"),
        ("3,000 dogs", (0, 2), "3,000 dogs"),
    ],
)
def test_read_entities_words_that_are_no_token_or_several_shift_the_phrase(
    words: str, span: tuple[int, int], named: str, read: Callable[..., Any]
) -> None:
    (caption,) = read(line(words, ((*span, "7"),)))["1.jpg"]
    (phrase,) = caption.phrases
    assert caption.tokens == tuple(tokenize(words))
    assert " ".join(caption.tokens[phrase.start : phrase.end]) == named


def test_read_entities_phrase_of_punctuation_alone_is_left_out(read: Callable[..., Any]) -> None:
    assert read(line("a dog , runs", ((2, 3, "7"),)))["1.jpg"][0].phrases == ()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ({"file": "2.jpg", "captions": []}, "boxes: Field required"),
        (line(file="2.jpg", boxes={"7": [(0.1, 0.2, 0.3)]}), "boxes.7.0.3"),  # type: ignore[list-item]
        (
            line(file="2.jpg", boxes={"7": [Box(0.5, 0.2, 0.3, 0.4)]}),
            r"\[0.5, 0.2, 0.3, 0.4\] is not a box",
        ),
        (line(file="2.jpg", boxes={"7": [Box(0.5, 0.2, 30.0, 40.0)]}), "is not a box"),
        (
            line(file="2.jpg", phrases=((2, 2, "7"),)),
            "words 2 to 2 are no phrase of a caption of 4",
        ),
        (line(file="2.jpg", phrases=((3, 5, "7"),)), "words 3 to 5"),
        (line(file="1.jpg"), "1.jpg stands in an earlier line"),
    ],
)
def test_read_entities_malformed_line_is_named(
    bad: Any, message: str, read: Callable[..., Any]
) -> None:
    with pytest.raises(DataError, match=rf"entities\.jsonl line 2: .*{message}"):
        read(line(), bad)


def test_read_entities_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_entities(tmp_path / "entities.jsonl")


def test_read_entities_published_captions_nearly_all_have_the_same_tokens(
    shared_data: Path,
) -> None:
    root = shared_data / "flickr8k"
    images, _ = read_dataset(DatasetConfig(name="train", kind="flickr8k", root=root, split="train"))
    grounding = read_entities(root / "entities.jsonl")
    same = sum(
        tuple(tokenize(caption)) in {each.tokens for each in grounding[image.key]}
        for image in images
        for caption in image.captions
    )
    assert same == 29_103  # of 29,985; the others differ in spelling: "t shirt", "grey"
