"""What must hold of the metrics whatever the captions are, and values that can be worked out by
hand."""

import math
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics.bleu import bleu
from evaluation.metrics.cider import CiderD, cider_d
from evaluation.metrics.meteor import meteor
from evaluation.metrics.ptb_tokenizer import tokenize_ptb
from evaluation.metrics.rouge import rouge_l
from evaluation.metrics.score import mean_score
from evaluation.scoring import score_captions

captions = st.lists(
    st.sampled_from(["a", "cat", "dog", "sits", "on", "the", "red", "mat", "."]), max_size=12
).map(" ".join)
images = st.lists(
    st.tuples(captions, st.lists(captions, min_size=1, max_size=4)), min_size=1, max_size=5
)

REFERENCES = [
    ["a brown dog runs", "the dog is running fast"],
    ["two children play ball", "kids with a ball"],
    ["a man rides a wave", "the surfer rides a big wave"],
]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A dog doesn't bark .", "a dog does n't bark"),
        ("Wait... it's the dog's (red) ball!", "wait it 's the dog 's -lrb- red -rrb- ball"),
        ("He cannot ride a well-known U.S. bike", "he can not ride a well-known u.s. bike"),
        ("  spaces \t and\nlines  ", "spaces and lines"),
        ("", ""),
        ("...", ""),
    ],
)
def test_tokenize_ptb_examples_give_words_without_punctuation(caption: str, words: str) -> None:
    assert tokenize_ptb(caption) == words.split()


@given(st.text())
def test_tokenize_ptb_any_text_gives_lower_case_words_without_spaces(text: str) -> None:
    for word in tokenize_ptb(text):
        assert word
        assert word == word.lower()
        assert not any(space in word for space in " \t\n\r")


@given(st.text(alphabet="ab.'-,0 /$(\"&<@_:"))
def test_tokenize_ptb_any_marks_neither_crash_nor_lose_letters(text: str) -> None:
    kept = "".join(tokenize_ptb(text)).replace("-lrb-", "").replace("-rrb-", "")
    assert [mark for mark in kept if mark in "ab0"] == [mark for mark in text if mark in "ab0"]


@given(images)
def test_score_captions_any_captions_lie_in_their_range(
    given_images: list[tuple[str, list[str]]],
) -> None:
    hypotheses = [text for text, _ in given_images]
    references = [texts for _, texts in given_images]
    for score in score_captions(references, hypotheses, with_meteor=False):
        top = 10.0 if score.name == "CIDEr-D" else 1.0
        assert len(score.per_image) == len(hypotheses)
        assert all(-1e-9 <= value <= top + 1e-6 for value in (score.value, *score.per_image))


@given(images)
def test_score_captions_words_and_text_score_the_same(
    given_images: list[tuple[str, list[str]]],
) -> None:
    hypotheses = [text for text, _ in given_images]
    references = [texts for _, texts in given_images]
    words = [[tokenize_ptb(text) for text in texts] for texts in references]
    expected = score_captions(references, hypotheses, with_meteor=False)
    assert (
        score_captions(words, [tokenize_ptb(text) for text in hypotheses], with_meteor=False)
        == expected
    )


def test_score_captions_perfect_hypotheses_score_full_marks() -> None:
    hypotheses = [texts[0] for texts in REFERENCES]
    scores = {
        score.name: score.value
        for score in score_captions(REFERENCES, hypotheses, with_meteor=False)
    }
    assert all(
        scores[name] == pytest.approx(1.0)
        for name in ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L")
    )
    single = cider_d([texts[:1] for texts in REFERENCES], hypotheses)
    assert single.per_image == pytest.approx([10.0] * 3)


@given(images)
def test_score_captions_values_are_those_of_the_summed_statistics(
    given_images: list[tuple[str, list[str]]],
) -> None:
    hypotheses = [text for text, _ in given_images]
    references = [texts for _, texts in given_images]
    for score in score_captions(references, hypotheses, with_meteor=False):
        assert score.value == score.of_sums(score.statistics.sum(axis=0))
        singles = [score.part(slice(i, i + 1)).value for i in range(len(hypotheses))]
        assert singles == pytest.approx(list(score.per_image), rel=1e-12)


def test_score_part_of_the_images_equals_scoring_them_alone() -> None:
    hypotheses = ["a dog runs", "a ball", "a man rides a big wave"]
    for score, alone in zip(
        bleu(REFERENCES, hypotheses), bleu(REFERENCES[1:], hypotheses[1:]), strict=True
    ):
        assert score.part(slice(1, 3)) == alone


def test_mean_score_none_does_not_count() -> None:
    score = mean_score("points", [1.0, None, 0.5])
    assert score.value == 0.75
    assert math.isnan(score.per_image[1])
    assert math.isnan(mean_score("points", [None]).value)


def test_score_captions_empty_hypothesis_scores_nothing() -> None:
    for score in score_captions(REFERENCES, ["", "two children play ball", ""], with_meteor=False):
        assert score.per_image[0] == pytest.approx(0.0)
        assert score.per_image[1] > 0.1


def test_bleu_short_hypothesis_is_penalised_for_brevity() -> None:
    (first, *_) = bleu([["a brown dog runs"]], ["a brown dog"])
    assert first.value == pytest.approx(math.exp(1 - 4 / 3), abs=1e-6)


def test_bleu_repeated_word_counts_as_often_as_in_a_reference() -> None:
    (first, *_) = bleu(
        [["the cat is on the mat", "there is a cat on the mat"]], ["the the the the the the the"]
    )
    assert first.value == pytest.approx(2 / 7, abs=1e-6)


def test_rouge_l_gap_in_the_middle_is_allowed() -> None:
    score = rouge_l([["a dog runs on sand"]], ["a dog on sand"])
    precision, recall = 1.0, 4 / 5
    assert score.value == pytest.approx(
        (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    )


def test_cider_d_words_of_every_image_count_for_nothing() -> None:
    references = [["a dog"], ["a cat"], ["a bird"]]
    assert cider_d(references, ["a", "a", "a"]).value == 0.0
    assert cider_d(references, ["dog", "dog", "dog"]).per_image[0] > 0.0


def test_cider_d_scorer_gives_the_same_for_any_order_of_calls() -> None:
    hypotheses = ["a dog runs", "a ball", "a man rides a big wave"]
    scorer = CiderD(REFERENCES)
    backwards = [scorer.score(hypotheses[index], index) for index in (2, 1, 0)][::-1]
    assert backwards == list(cider_d(REFERENCES, hypotheses).per_image)
    assert scorer.score(["a", "dog", "runs"], 0) == backwards[0]


def test_cider_d_repeated_words_gain_nothing() -> None:
    scorer = CiderD(REFERENCES)
    assert scorer.score("a brown dog runs runs runs runs", 0) < scorer.score("a brown dog runs", 0)


def test_meteor_perfect_partial_and_hopeless_captions_are_told_apart(
    one_meteor: Callable[[], AbstractContextManager[None]],
) -> None:
    pytest.importorskip(
        "pycocoevalcap", reason="the reference implementation, pycocoevalcap, is not installed"
    )
    if shutil.which("java") is None:
        pytest.skip("METEOR's program needs Java")
    with one_meteor():
        score = meteor([["a brown dog runs"]] * 4, ["a brown dog runs", "a dog", "zebra", ""])
    assert score is not None
    perfect, partial, hopeless, empty = score.per_image
    assert perfect == pytest.approx(1.0)
    assert 0.1 < partial < 0.9
    assert (hopeless, empty) == (0.0, 0.0)
    assert score.part(slice(2, 4)).value == 0.0


@pytest.mark.parametrize(("references", "hypotheses"), [([], []), ([["a"]], []), ([[]], ["a"])])
def test_score_captions_mismatched_input_is_refused(
    references: list[list[str]], hypotheses: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"photo"):
        score_captions(references, hypotheses, with_meteor=False)


def test_score_captions_without_java_leaves_meteor_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    hypotheses = [texts[0] for texts in REFERENCES]
    assert meteor(REFERENCES, hypotheses) is None
    names = [score.name for score in score_captions(REFERENCES, hypotheses, with_meteor=True)]
    assert names == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]


def test_meteor_program_that_fails_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip(
        "pycocoevalcap", reason="the reference implementation, pycocoevalcap, is not installed"
    )
    failing = shutil.which("false")
    assert failing is not None
    monkeypatch.setattr(shutil, "which", lambda _: failing)
    assert meteor(REFERENCES, [texts[0] for texts in REFERENCES]) is None
    assert "METEOR is left out" in caplog.text
