"""Figures of captions: the attention figure has a panel a word, the tree has every caption once."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evaluation.figures.attention import attention_figure
from evaluation.figures.beams import Branch, beam_figure, beam_text, beam_tree
from models.caption import Caption, Hypothesis, Word
from models.geometry import CellGrid

GRID = CellGrid(14, 14)


def caption_of(*sentences: str) -> Caption:
    """An answer with these captions, best first; each word has a map of its own."""
    alpha = np.full((14, 14), 1 / 196, dtype=np.float32)
    hypotheses = tuple(
        Hypothesis(
            sentence,
            tuple(Word(text, 0.5, alpha, 0.9) for text in sentence.split()),
            -float(rank),
            0.5,
        )
        for rank, sentence in enumerate(sentences)
    )
    return Caption(hypotheses, GRID)


def sentences_of(branch: Branch, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """What the tree says, read from its root to each end."""
    for follower in branch.followers:
        words = (*before, follower.text)
        if follower.is_end:
            yield words
        yield from sentences_of(follower, words)


CAPTIONS = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(" ".join),
    min_size=1,
    max_size=8,
    unique=True,
)


@settings(max_examples=60, deadline=None)
@given(CAPTIONS)
def test_beam_tree_says_every_caption_once_and_no_other(sentences: list[str]) -> None:
    said = sorted(" ".join(words) for words in sentences_of(beam_tree(caption_of(*sentences))))
    assert said == sorted(sentences)


@settings(max_examples=60, deadline=None)
@given(CAPTIONS)
def test_beam_text_has_the_rank_of_every_caption_once(sentences: list[str]) -> None:
    text = beam_text(beam_tree(caption_of(*sentences)))
    for rank in range(1, 1 + len(sentences)):
        assert text.count(f"[{rank}]") == 1


def test_beam_text_parts_where_captions_part() -> None:
    tree = beam_tree(caption_of("a cat", "a cat with eyes", "a dog", "the cat"))
    assert beam_text(tree).splitlines() == [
        "a",
        "├─ cat [1]",
        "│  └─ with eyes [2]",
        "└─ dog [3]",
        "the cat [4]",
    ]


def test_beam_figure_writes_every_word_of_the_tree() -> None:
    (axes,) = beam_figure(beam_tree(caption_of("a cat", "a cat with eyes", "a dog"))).axes
    assert sorted(text.get_text() for text in axes.texts) == [
        "a",
        "cat [1]",
        "dog [3]",
        "eyes [2]",
        "with",
    ]


@pytest.mark.parametrize("columns", [1, 3, 8])
def test_attention_figure_has_a_panel_for_the_photo_and_for_each_word(columns: int) -> None:
    figure = attention_figure(
        Image.new("RGB", (90, 60), "tan"), caption_of("a cat on a mat"), columns=columns
    )
    shown = [axes.get_title() for axes in figure.axes if axes.images]
    assert shown == ["photo", "a  50%", "cat  50%", "on  50%", "a  50%", "mat  50%"]


def test_attention_figure_lights_the_place_of_the_map() -> None:
    alpha = np.zeros((14, 14), dtype=np.float32)
    alpha[2, 11] = 1.0
    words = (Word("cat", 0.5, alpha, 0.9),)
    caption = Caption((Hypothesis("cat", words, -1.0, 0.5),), GRID)
    figure = attention_figure(Image.new("RGB", (140, 140), "gray"), caption)
    pixels = np.asarray(figure.axes[1].images[0].get_array(), dtype=np.float32).sum(axis=2)
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    assert (row // 10, column // 10) == (2, 11)
