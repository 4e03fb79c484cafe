"""The tokenizer's rules, one test each, and the vocabulary's promises."""

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.errors import CheckpointError, ConfigError
from models.tokenizer import Vocabulary, tokenize

CAPTIONS = ["A dog runs .", "a dog and a cat", "The dog's ball", "a cat"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param("A Dog RUNS", ["a", "dog", "runs"], id="case"),
        pytest.param("ÉCOLE Ärger ΟΔΟΣ", ["école", "ärger", "οδος"], id="case-beyond-ascii"),
        pytest.param("Two dogs, one ball .", ["two", "dogs", "one", "ball"], id="punctuation"),
        pytest.param(
            '"Stop!" (he) says: go; #now & @home/work…',
            ["stop", "he", "says", "go", "now", "home", "work"],
            id="symbols",
        ),
        pytest.param("snake_case", ["snake", "case"], id="underscore-separates"),
        pytest.param("3 dogs, 20 cats", ["3", "dogs", "20", "cats"], id="numbers"),
        pytest.param(
            "3,000 people, 2.5 m, 1,2,3 .",
            ["3,000", "people", "2.5", "m", "1,2,3"],
            id="number-separators",
        ),
        pytest.param(
            "in 1999, 2000. Then 7",
            ["in", "1999", "2000", "then", "7"],
            id="number-before-punctuation",
        ),
        pytest.param(
            "number 5's 2nd 747s", ["number", "5's", "2nd", "747s"], id="digits-with-letters"
        ),
        pytest.param(
            "don't o'clock rock'n'roll", ["don't", "o'clock", "rock'n'roll"], id="apostrophe-inside"
        ),
        pytest.param(
            "don\u2019t don\u02bct don`t don\uff07t", ["don't"] * 4, id="typographic-apostrophes"
        ),
        pytest.param(
            "the dogs' 'quoted' ''x'' 'tis",
            ["the", "dogs", "quoted", "x", "tis"],
            id="apostrophe-at-an-edge",
        ),
        pytest.param("a man 's hat", ["a", "man's", "hat"], id="clitic-s"),
        pytest.param("it does n't , they 're", ["it", "doesn't", "they're"], id="clitic-nt-re"),
        pytest.param(
            "I 'm you 've he 'll she 'd", ["i'm", "you've", "he'll", "she'd"], id="clitics-apart"
        ),
        pytest.param("a 'sign' here", ["a", "sign", "here"], id="no-clitic-but-a-quote"),
        pytest.param(
            "t-shirt mid-air x-ray-like", ["t-shirt", "mid-air", "x-ray-like"], id="hyphen-inside"
        ),
        pytest.param(
            "t\u2010shirt t\u2011shirt t\u00adshirt",
            ["t-shirt", "t-shirt", "tshirt"],
            id="other-hyphens",
        ),
        pytest.param(
            "-a- b - c -- d\u2014e\u2013f", ["a", "b", "c", "d", "e", "f"], id="dashes-separate"
        ),
        pytest.param("cafe\u0301 naïve", ["café", "naïve"], id="composed-accents"),
        pytest.param(
            "\ufb01re \uff46ull x\u00b2 Ⅳ", ["fire", "full", "x2", "iv"], id="compatibility-forms"
        ),
        pytest.param("собака 犬 कुत्ता İzmir", ["собака", "犬", "कुत्ता", "i̇zmir"], id="any-script"),
        pytest.param("a ❤️ b 👍🏽 1️⃣", ["a", "b", "1"], id="emoji-are-dropped"),
        pytest.param("a\tb\nc\u00a0d\u3000e", ["a", "b", "c", "d", "e"], id="any-whitespace"),
        pytest.param(" .,!?- ' _ ", [], id="nothing"),
        pytest.param("", [], id="empty"),
    ],
)
def test_tokenize_each_rule_gives_the_written_tokens(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@example("x, n't")
@example("n't n't")
@example("2.5n't 's 'd")
@example("3-4.5 2.5-m")
@given(st.one_of(st.text(), st.text(alphabet="nt's`-,.35 _İΣß\u0301\u00ad", max_size=12)))
@settings(max_examples=400)
def test_tokenize_joined_tokens_stay_as_they_are(text: str) -> None:
    tokens = tokenize(text)

    assert tokenize(" ".join(tokens)) == tokens
    assert all(token and not any(character.isspace() for character in token) for token in tokens)


@given(st.text(alphabet=string.printable))
def test_tokenize_ascii_text_ignores_case(text: str) -> None:
    assert tokenize(text.upper()) == tokenize(text.lower()) == tokenize(text)


def test_vocabulary_special_tokens_have_the_first_ids() -> None:
    vocabulary = Vocabulary.build(CAPTIONS, 1)

    assert vocabulary.tokens[:4] == ("<pad>", "<bos>", "<eos>", "<unk>")
    assert (vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id) == (
        0,
        1,
        2,
        3,
    )
    assert len(vocabulary) == 4 + len(vocabulary.words)


def test_vocabulary_count_threshold_keeps_words_at_it_most_frequent_first() -> None:
    assert Vocabulary.build(CAPTIONS, 2).words == ("a", "cat", "dog")
    assert Vocabulary.build(CAPTIONS, 1).words == (
        "a",
        "cat",
        "dog",
        "and",
        "ball",
        "dog's",
        "runs",
        "the",
    )
    assert Vocabulary.build(CAPTIONS, 4).words == ("a",)


def test_vocabulary_words_of_text_only_count_but_need_an_image() -> None:
    vocabulary = Vocabulary.build(CAPTIONS, 2, text_only=["runs runs zebra zebra zebra"])

    assert "runs" in vocabulary.words
    assert "zebra" not in vocabulary.words


def test_vocabulary_captions_as_an_iterator_are_read_once() -> None:
    assert Vocabulary.build(iter(CAPTIONS), 2).words == Vocabulary.build(CAPTIONS, 2).words


def test_vocabulary_order_of_captions_does_not_matter() -> None:
    assert Vocabulary.build(reversed(CAPTIONS), 1).words == Vocabulary.build(CAPTIONS, 1).words


def test_vocabulary_threshold_that_no_word_reaches_is_refused() -> None:
    with pytest.raises(ConfigError, match="No word occurs 9 times; lower"):
        Vocabulary.build(CAPTIONS, 9)


def test_vocabulary_known_caption_round_trips() -> None:
    vocabulary = Vocabulary.build(CAPTIONS, 1)

    assert vocabulary.decode(vocabulary.encode("The DOG 's ball!")) == ["the", "dog's", "ball"]
    assert vocabulary.encode(" ".join(vocabulary.words)) == list(range(4, len(vocabulary)))


def test_vocabulary_unknown_word_becomes_unk() -> None:
    vocabulary = Vocabulary.build(CAPTIONS, 2)

    assert vocabulary.encode("a purple dog") == [
        vocabulary.words.index("a") + 4,
        3,
        vocabulary.words.index("dog") + 4,
    ]


def test_vocabulary_special_names_in_a_caption_are_no_special_tokens() -> None:
    assert Vocabulary.build(CAPTIONS, 1).encode("<bos> a <eos> <pad>") == [3, 4, 3, 3]


def test_vocabulary_decode_stops_at_eos_and_skips_bos_and_pad() -> None:
    assert Vocabulary(["a", "dog"]).decode([1, 4, 0, 5, 2, 4, 4]) == ["a", "dog"]


@pytest.mark.parametrize("words", [["a", "dog", "a"], ["<unk>", "a"]])
def test_vocabulary_word_that_stands_twice_is_refused(words: list[str]) -> None:
    with pytest.raises(CheckpointError, match="twice"):
        Vocabulary(words)
