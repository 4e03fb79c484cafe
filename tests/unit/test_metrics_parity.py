"""Our metrics equal the reference implementation: live where Java is there, and from a golden file
everywhere.

The golden file holds sentences made up to exercise every rule, with the words and scores that the
reference gave. It is rewritten from the reference by `GLIMPSE_WRITE_GOLDEN=1 pytest
tests/unit/test_metrics_parity.py`.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.metrics.meteor import meteor
from evaluation.metrics.ptb_tokenizer import tokenize_ptb
from evaluation.metrics.score import Score
from evaluation.scoring import score_captions

TOLERANCE = 1e-4


def _require_reference() -> None:
    pytest.importorskip(
        "pycocoevalcap", reason="the reference implementation, pycocoevalcap, is not installed"
    )
    if shutil.which("java") is None:
        pytest.skip("the reference tokenizer needs Java")


def _reference_words(captions: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Tokenise with the reference's jar."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-Dfile.encoding=UTF-8")
    tokenized = PTBTokenizer().tokenize(
        {number: [{"caption": text}] for number, text in enumerate(captions)}
    )
    return [
        [word for word in tokenized[number][0].split(" ") if word]
        for number in range(len(captions))
    ]


def _reference_scores(
    references: Sequence[Sequence[str]], hypotheses: Sequence[str]
) -> dict[str, list[float]]:
    """Score tokenized captions with the reference: per name, the whole set's value followed by each
    image's."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    expected = dict(enumerate(map(list, references)))
    given = {i: [text] for i, text in enumerate(hypotheses)}
    values, images = Bleu(4).compute_score(expected, given, verbose=0)
    scores = {f"BLEU-{n + 1}": [values[n], *images[n]] for n in range(4)}
    for name, metric in (("ROUGE-L", Rouge()), ("CIDEr-D", Cider())):
        value, images = metric.compute_score(expected, given)
        scores[name] = [float(value), *map(float, images)]
    return scores


def _assert_equal(ours: Sequence[Score], expected: Mapping[str, Sequence[float]]) -> None:
    assert [score.name for score in ours] == list(expected)
    for score in ours:
        np.testing.assert_allclose(
            [score.value, *score.per_image], expected[score.name], atol=TOLERANCE, rtol=0
        )


@pytest.fixture
def golden(repository: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    path = repository / "tests" / "golden" / "caption_metrics.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if os.environ.get("GLIMPSE_WRITE_GOLDEN"):
        _require_reference()
        texts = [entry["caption"] for entry in content["tokens"]]
        words = _reference_words(texts, monkeypatch)
        content["tokens"] = [
            {"caption": text, "words": " ".join(row)}
            for text, row in zip(texts, words, strict=True)
        ]
        images = content["photos"]
        flat = [text for image in images for text in [image["hypothesis"], *image["references"]]]
        tokenized = iter(" ".join(row) for row in _reference_words(flat, monkeypatch))
        pairs = [
            (next(tokenized), [next(tokenized) for _ in image["references"]]) for image in images
        ]
        content["scores"] = _reference_scores(
            [refs for _, refs in pairs], [text for text, _ in pairs]
        )
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return content


def test_tokenize_ptb_golden_sentences_equal_reference_words(golden: dict[str, Any]) -> None:
    assert len(golden["tokens"]) > 100
    for entry in golden["tokens"]:
        assert tokenize_ptb(entry["caption"]) == entry["words"].split(" ") * bool(entry["words"]), (
            entry["caption"]
        )


def test_scores_golden_images_equal_reference_scores(golden: dict[str, Any]) -> None:
    references = [image["references"] for image in golden["photos"]]
    hypotheses = [image["hypothesis"] for image in golden["photos"]]
    _assert_equal(score_captions(references, hypotheses, with_meteor=False), golden["scores"])


@pytest.fixture(scope="module")
def flickr8k_test(shared_data: Path) -> list[list[str]]:
    folder = shared_data / "flickr8k"
    captions: dict[str, list[str]] = {}
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        label, caption = line.split("\t")
        captions.setdefault(label.split("#")[0], []).append(caption)
    return [
        captions[name]
        for name in (folder / "Flickr_8k.testImages.txt").read_text(encoding="utf-8").split()
    ]


@pytest.fixture
def human(flickr8k_test: list[list[str]]) -> tuple[list[list[str]], list[str]]:
    """The other four captions as references, and one as the hypothesis; every third image gets
    another image's."""
    references = [captions[1:] for captions in flickr8k_test]
    hypotheses = [captions[0] for captions in flickr8k_test]
    wrong = list(range(0, len(hypotheses), 3))
    moved = [hypotheses[i] for i in random.Random(8).sample(wrong, len(wrong))]
    for place, text in zip(wrong, moved, strict=True):
        hypotheses[place] = text
    hypotheses[7] = ""
    return references, hypotheses


def test_scores_flickr8k_test_equal_live_reference(
    human: tuple[list[list[str]], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _require_reference()
    references, hypotheses = human
    flat = [
        text
        for texts, answer in zip(references, hypotheses, strict=True)
        for text in [answer, *texts]
    ]
    rows = _reference_words(flat, monkeypatch)
    assert rows == [tokenize_ptb(text) for text in flat]

    joined = [" ".join(row) for row in rows]
    expected = _reference_scores(
        [joined[i + 1 : i + 5] for i in range(0, len(joined), 5)], joined[::5]
    )
    _assert_equal(score_captions(references, hypotheses, with_meteor=False), expected)


def test_meteor_flickr8k_test_equals_live_reference(
    human: tuple[list[list[str]], list[str]], one_meteor: Callable[[], AbstractContextManager[None]]
) -> None:
    _require_reference()
    from pycocoevalcap.meteor.meteor import Meteor

    references = human[0][:50]
    hypotheses = human[1][:50]
    # Word for word: no penalty for chunks.
    hypotheses[4] = references[4][0]
    hypotheses[5] = references[5][1]
    with one_meteor():
        ours = meteor(references, hypotheses)
    reference = Meteor()
    expected = {
        i: [" ".join(tokenize_ptb(text)) for text in texts] for i, texts in enumerate(references)
    }
    given = {i: [" ".join(tokenize_ptb(text))] for i, text in enumerate(hypotheses)}
    value, images = reference.compute_score(expected, given)
    process = reference.meteor_p
    del reference  # stops the program; its pipes are left open
    process.stdout.close()
    process.stderr.close()
    assert ours is not None
    np.testing.assert_allclose([ours.value, *ours.per_image], [value, *images], atol=1e-12, rtol=0)
