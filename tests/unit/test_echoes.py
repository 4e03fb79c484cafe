"""What counts as an echo, and that a caption whose words are not forbidden never becomes one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evaluation.metrics.echoes import echo_share, human_echoes, is_echo
from models.config import DecodingOptions
from models.decoding import DecodingResult, decode
from models.echoes import EchoRules, NoEcho, has_echo
from models.features import ImageFeatures
from models.runtime.torch import TorchSteps
from models.tokenizer import Vocabulary
from tests.unit.toys import SPECIAL, ToyDecoder, exhaustive_search, toy_images
from training.data.datasets import DatasetConfig, read_dataset

ECHOING = [
    "a brown dog and a brown dog are playing in the snow",
    "a man in a yellow shirt is standing next to a man in a yellow shirt",
    "A man stands beside the man.",
    "a close up of a bowl of a bowl of water",
    "a black and white dog plays with a black and white dog",
    "two dogs run on grass and on grass",
    "a swimming pool next to a swimming pool",
    "a truck with bags and bags",
    "a kitchen with a white stove and a stove",
    "a toilet next to a small white toilet",
    "another dog with another dog",
]
PLAIN = [
    "a brown dog and a white dog",
    "a man and a woman",
    "a man in a red hat and a woman in a blue hat",
    "a dog next to another dog",
    "a dog next to another brown dog",
    "a black dog and a black and white dog",
    "a man in black and a woman in black",
    "people in front of a car with a dog in front of a house",
    "two zebras stand side by side",
    "a man is a man",
    "a dog, a dog",
    "and and and",
    "",
]


@pytest.mark.parametrize("caption", ECHOING)
def test_echo_is_a_phrase_said_again_behind_a_joiner(caption: str) -> None:
    assert is_echo(caption)


@pytest.mark.parametrize("caption", PLAIN)
def test_caption_that_says_nothing_twice_so_is_no_echo(caption: str) -> None:
    assert not is_echo(caption)


def test_echo_share_counts_captions_and_human_echoes_those_of_all_images() -> None:
    assert echo_share([*ECHOING[:1], *PLAIN[:3]]).value == 0.25
    references = [[ECHOING[0], PLAIN[0]], [PLAIN[1], PLAIN[2]]]
    assert human_echoes(references).value == 0.25


def test_human_echoes_on_everyday_photos_are_rare(shared_data: Path, repository: Path) -> None:
    """By this rule people pass, so that what a model has more is the model's."""
    everyday = DatasetConfig(
        name="everyday",
        kind="coco",
        root=shared_data / "coco-sample",
        split="all",
        include_keys_file=repository / "training" / "configs" / "everyday-dev.txt",
    )
    images, _ = read_dataset(everyday)
    share = human_echoes(image.captions for image in images)
    assert len(share.per_image) == 1500
    assert 0.005 < share.value < 0.015


TOKENS = (
    *Vocabulary.specials,
    *(
        "a",
        "and",
        "in",
        "front",
        "side",
        "is",
        "riding",
        "black",
        "white",
        "another",
        "dog",
        "man",
        "two",
    ),
)
RULES = EchoRules(TOKENS)
WORD_IDS = range(len(Vocabulary.specials), len(TOKENS))


def read(words: str) -> NoEcho:
    caption = RULES.begin()
    for word in words.split():
        caption = caption.after(TOKENS.index(word))
    return caption


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [
        ("", set()),
        ("a dog", set()),
        ("a dog and", {"dog"}),
        ("a dog and a", {"dog"}),
        ("a dog and a black", {"dog"}),
        ("a white dog and a black", set()),
        ("a dog and another", set()),
        ("a black dog and a man in a", {"dog", "man"}),
        ("a black dog and a man in a black", {"dog", "man"}),
        ("a black and white dog in a black and white", {"dog"}),
        ("a dog is a", set()),
        ("a dog is riding a man in front a", {"dog", "man"}),
    ],
)
def test_no_echo_forbids_the_heads_that_would_complete_one(words: str, forbidden: set[str]) -> None:
    assert {TOKENS[token_id] for token_id in read(words).forbidden()} == forbidden


@given(choices=st.lists(st.integers(0, len(WORD_IDS) - 1), max_size=30))
@settings(max_examples=300)
def test_no_echo_words_that_were_not_forbidden_never_echo(choices: list[int]) -> None:
    caption = RULES.begin()
    words: list[str] = []
    for choice in choices:
        allowed = [each for each in WORD_IDS if each not in caption.forbidden()]
        token_id = allowed[choice % len(allowed)]
        words.append(TOKENS[token_id])
        caption = caption.after(token_id)
    assert not has_echo(words)


# -- in the search ----

SEARCHED = EchoRules((*Vocabulary.specials, "a", "and", "dog", "man"))
COUNT = len(SEARCHED.roles) - len(SPECIAL)
WIDE = DecodingOptions.model_construct(
    beam_size=COUNT**5 + COUNT**4, num_captions=20, max_length=5, length_penalty=0.5
)


def search(images: Tensor, options: DecodingOptions) -> list[DecodingResult]:
    constraints = [SEARCHED.begin()] * len(images)
    return decode(TorchSteps(ToyDecoder()), ImageFeatures(images), options, constraints=constraints)


def keeps_the_rules(token_ids: tuple[int, ...]) -> bool:
    caption = SEARCHED.begin()
    for token_id in token_ids:
        if token_id in caption.forbidden():
            return False
        caption = caption.after(token_id)
    return True


def test_decode_constrained_wide_beam_equals_exhaustive_search_of_what_is_allowed() -> None:
    images = toy_images(2, COUNT, seed=3)
    for image, result in zip(images, search(images, WIDE), strict=True):
        found = exhaustive_search(image, WIDE)
        allowed = [each for each in found if keeps_the_rules(each.words)]
        assert len(allowed) < len(found)
        assert [caption.token_ids for caption in result.captions] == [
            each.words for each in allowed[:20]
        ]
        scores = [caption.sum_logprob / len(caption.logprobs) ** 0.5 for caption in result.captions]
        assert scores == pytest.approx([each.score for each in allowed[:20]], abs=1e-4)


@given(seed=st.integers(0, 10_000), beam_size=st.integers(1, 6))
@settings(max_examples=25)
def test_decode_constraints_follow_their_hypotheses(seed: int, beam_size: int) -> None:
    options = DecodingOptions(beam_size=beam_size, num_captions=beam_size, max_length=9)
    images = toy_images(3, COUNT, seed)
    batch = search(images, options)
    for index, result in enumerate(batch):
        assert result.captions
        assert all(keeps_the_rules(caption.token_ids) for caption in result.captions)
        (single,) = search(images[index : index + 1], options)
        assert [caption.token_ids for caption in single.captions] == [
            caption.token_ids for caption in result.captions
        ]


def test_decode_constrained_keeps_the_decoders_own_probabilities() -> None:
    images = toy_images(30, COUNT, seed=5)
    options = DecodingOptions(beam_size=1, max_length=9)
    free = decode(TorchSteps(ToyDecoder()), ImageFeatures(images), options)
    pairs = [
        (one.captions[0], other.captions[0])
        for one, other in zip(free, search(images, options), strict=True)
        if one.captions[0].token_ids == other.captions[0].token_ids
    ]
    assert pairs
    for one, other in pairs:
        np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=1e-5, atol=1e-6)
