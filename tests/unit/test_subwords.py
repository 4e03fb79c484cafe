"""Subwords: there and back, words of their own, the captioner's manner, and what is refused."""

import pytest

from models.errors import CheckpointError, ConfigError
from models.translation.subwords import EOS, UNK, Subwords, as_captioned, learn_subwords
from tests.unit.toy_translators import PAIRS, SIZE, toy_subwords


def test_subwords_round_trip_keeps_case_and_punctuation() -> None:
    subwords = toy_subwords()
    for source, target in PAIRS:
        assert subwords.decode(subwords.encode(source)) == source
        assert subwords.decode(subwords.encode(target)) == target


def test_subwords_have_the_special_ids_of_the_search_and_the_size_asked_for() -> None:
    subwords = toy_subwords()
    assert len(subwords) == SIZE
    assert min(min(subwords.encode(line)) for pair in PAIRS for line in pair) > UNK
    assert UNK in subwords.encode("犬")


def test_subwords_from_their_content_are_the_same() -> None:
    subwords = toy_subwords()
    again = Subwords(subwords.content)
    assert [again.encode(pair[0]) for pair in PAIRS] == [subwords.encode(p[0]) for p in PAIRS]


def test_encode_words_equals_encode_of_the_joined_words() -> None:
    subwords = toy_subwords()
    for pair in PAIRS:
        words = pair[0].split()
        source = subwords.encode_words(words)
        assert source.token_ids == [*subwords.encode(pair[0]), EOS]
        grouped = subwords.group(source.token_ids[:-1])
        assert [len(group) for group in grouped] == [
            source.owners.count(number) for number in range(len(words))
        ]


def test_group_covers_every_subword_once() -> None:
    subwords = toy_subwords()
    ids = subwords.encode(PAIRS[0][1])
    groups = subwords.group(ids)
    assert [position for group in groups for position in group] == list(range(len(ids)))
    texts = [subwords.decode([ids[position] for position in group]) for group in groups]
    assert texts == PAIRS[0][1].split()


def test_sampled_segmentations_differ_and_say_the_same() -> None:
    subwords = toy_subwords()
    text = PAIRS[5][1]
    drawn = [subwords.sample(text, 0.1) for _ in range(30)]
    assert len({tuple(ids) for ids in drawn}) > 1
    assert {subwords.decode(ids) for ids in drawn} == {text}


def test_as_captioned_is_lower_case_without_punctuation() -> None:
    assert as_captioned("A Boston Terrier, running!") == "a boston terrier running"


def test_learning_the_same_lines_gives_the_same_subwords() -> None:
    lines = [pair[0] for pair in PAIRS]
    assert learn_subwords(lines, 30).content == learn_subwords(lines, 30).content


def test_too_many_subwords_are_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="another size"):
        learn_subwords(["one line"], 5000)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x00" * 64])
def test_content_that_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError):
        Subwords(content)
