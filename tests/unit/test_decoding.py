"""Beam search against exhaustive, textbook and greedy search on toys, and what it promises of every
caption."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from models.config import DecodingOptions
from models.decoders.config import AttentionConfig
from models.decoders.show_attend_tell import AttentionDecoder
from models.decoding import DecodingResult, ScoredCaption, decode
from models.errors import OptionsError
from models.features import ImageFeatures
from models.runtime.torch import TorchSteps
from models.sampling import sample
from tests.unit.toys import (
    SPECIAL,
    ToyDecoder,
    exhaustive_search,
    greedy_search,
    next_logprobs,
    plain_beam_search,
    toy_images,
)

WORDS = 5
PENALTIES = [0.0, 0.5, 1.0, 2.0]


def _options(**fields: Any) -> DecodingOptions:
    """Options whose bounds are lifted: an exhaustive beam is wider than a served one may be."""
    return DecodingOptions.model_construct(**(DecodingOptions().model_dump() | fields))


def _score(caption: ScoredCaption, options: DecodingOptions) -> float:
    return caption.sum_logprob / float(len(caption.logprobs) ** options.length_penalty)


def _decode_toy(annotations: Tensor, options: DecodingOptions) -> list[DecodingResult]:
    return decode(TorchSteps(ToyDecoder()), ImageFeatures(annotations), options)


@pytest.mark.parametrize("length_penalty", PENALTIES)
def test_decode_wide_beam_equals_exhaustive_search(length_penalty: float) -> None:
    options = _options(
        beam_size=WORDS**3 + WORDS**2, num_captions=10, max_length=3, length_penalty=length_penalty
    )
    images = toy_images(4, WORDS, seed=int(10 * length_penalty))

    results = _decode_toy(images, options)

    for image, result in zip(images, results, strict=True):
        best = exhaustive_search(image, options)[:10]
        assert [caption.token_ids for caption in result.captions] == [
            scored.words for scored in best
        ]
        assert [_score(caption, options) for caption in result.captions] == pytest.approx(
            [scored.score for scored in best], abs=1e-4
        )


@pytest.mark.parametrize("length_penalty", PENALTIES)
@given(
    seed=st.integers(0, 10_000),
    beam_size=st.integers(1, 7),
    max_length=st.integers(1, 6),
    scale=st.floats(0.1, 6),
)
@settings(max_examples=15)
def test_decode_any_beam_equals_textbook_search_run_to_the_end(
    length_penalty: float, seed: int, beam_size: int, max_length: int, scale: float
) -> None:
    options = DecodingOptions(
        beam_size=beam_size,
        num_captions=(beam_size + 1) // 2,
        max_length=max_length,
        length_penalty=length_penalty,
    )
    images = toy_images(2, WORDS, seed, scale)

    for image, result in zip(images, _decode_toy(images, options), strict=True):
        best = plain_beam_search(image, options)[: options.num_captions]
        assert [_score(caption, options) for caption in result.captions] == pytest.approx(
            [scored.score for scored in best], rel=1e-4, abs=1e-4
        )


@given(
    seed=st.integers(0, 10_000),
    max_length=st.integers(1, 8),
    length_penalty=st.sampled_from(PENALTIES),
)
@settings(max_examples=60)
def test_decode_beam_of_one_equals_greedy_search(
    seed: int, max_length: int, length_penalty: float
) -> None:
    options = DecodingOptions(beam_size=1, max_length=max_length, length_penalty=length_penalty)
    images = toy_images(3, WORDS, seed)

    results = _decode_toy(images, options)

    assert [result.captions[0].token_ids for result in results] == [
        greedy_search(image, options) for image in images
    ]


@given(
    seed=st.integers(0, 10_000),
    beam_size=st.integers(1, 6),
    length_penalty=st.sampled_from(PENALTIES),
)
@settings(max_examples=15)
def test_decode_batch_equals_single(seed: int, beam_size: int, length_penalty: float) -> None:
    options = DecodingOptions(
        beam_size=beam_size, num_captions=beam_size, max_length=6, length_penalty=length_penalty
    )
    images = toy_images(4, WORDS, seed)

    batch = _decode_toy(images, options)

    for index, result in enumerate(batch):
        (single,) = _decode_toy(images[index : index + 1], options)
        assert [caption.token_ids for caption in single.captions] == [
            caption.token_ids for caption in result.captions
        ]
        for one, other in zip(single.captions, result.captions, strict=True):
            np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(one.alphas, other.alphas, rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 10_000), beam_size=st.integers(1, 6), max_length=st.integers(1, 6))
@settings(max_examples=40)
def test_decode_every_caption_keeps_its_promises(
    seed: int, beam_size: int, max_length: int
) -> None:
    options = DecodingOptions(beam_size=beam_size, num_captions=beam_size, max_length=max_length)
    images = toy_images(3, WORDS, seed)
    images[:, :, [SPECIAL.pad, SPECIAL.bos, SPECIAL.unk]] += 20  # tempting, and never emitted
    images[:, SPECIAL.bos, SPECIAL.eos] += 20  # and so is an empty caption

    for result in _decode_toy(images, options):
        assert len(result.captions) == beam_size or beam_size > WORDS
        assert len({caption.token_ids for caption in result.captions}) == len(result.captions)
        scores = [_score(caption, options) for caption in result.captions]
        assert scores == sorted(scores, reverse=True)
        for caption in result.captions:
            length = len(caption.token_ids)
            assert 1 <= length <= max_length
            assert min(caption.token_ids) >= len(SPECIAL)
            assert caption.logprobs.shape == (length + 1,)
            assert caption.alphas.shape == (length, WORDS + len(SPECIAL))
            assert caption.betas.shape == (length,)
            assert (caption.logprobs <= 0).all()
            assert np.isfinite(caption.logprobs).all()


@pytest.mark.parametrize("eos_logit", [-50.0, -3e4, -torch.inf])
@pytest.mark.parametrize("beam_size", [1, 4])
def test_decode_beam_that_never_ends_is_closed_at_the_limit(
    beam_size: int, eos_logit: float
) -> None:
    images = toy_images(3, WORDS, seed=1)
    images[:, :, SPECIAL.eos] = eos_logit

    results = _decode_toy(
        images, DecodingOptions(beam_size=beam_size, num_captions=beam_size, max_length=7)
    )

    for result in results:
        assert len(result.captions) == beam_size
        for caption in result.captions:
            assert len(caption.token_ids) == 7
            assert caption.sum_logprob > -torch.inf


def test_decode_caption_that_ends_early_beside_one_that_never_ends_keeps_its_caption() -> None:
    images = toy_images(2, WORDS, seed=2)
    images[0, len(SPECIAL) :, SPECIAL.eos] = 30.0
    images[1, :, SPECIAL.eos] = -30.0

    early, late = _decode_toy(images, DecodingOptions(beam_size=3, max_length=9))

    assert len(early.captions[0].token_ids) == 1
    assert len(late.captions[0].token_ids) == 9


@pytest.mark.parametrize("words", [1, 2])
def test_decode_beam_wider_than_the_vocabulary_gives_the_captions_there_are(words: int) -> None:
    options = DecodingOptions(beam_size=20, num_captions=20, max_length=2)
    images = toy_images(2, words, seed=3)

    for image, result in zip(images, _decode_toy(images, options), strict=True):
        expected = exhaustive_search(image, options)
        assert [caption.token_ids for caption in result.captions] == [
            scored.words for scored in expected
        ]


def test_decode_more_captions_than_beams_is_refused() -> None:
    with pytest.raises(OptionsError, match="num_captions is 3, more than beam_size, which is 2"):
        _decode_toy(toy_images(1, WORDS, seed=0), DecodingOptions(beam_size=2, num_captions=3))


@pytest.mark.parametrize(
    "field", [{"beam_size": 0}, {"beam_size": 21}, {"num_captions": 0}, {"max_length": 0},
              {"max_length": 51}, {"length_penalty": -0.1}, {"length_penalty": 2.1},
              {"length_penalty": float("nan")}, {"beams": 3}]
)  # fmt: skip
def test_decoding_options_out_of_bounds_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DecodingOptions(**field)


def test_decode_higher_length_penalty_never_shortens_the_best_caption() -> None:
    images = toy_images(8, WORDS, seed=4)

    lengths = [
        [
            len(result.captions[0].token_ids)
            for result in _decode_toy(
                images, _options(beam_size=780, max_length=4, length_penalty=penalty)
            )
        ]
        for penalty in PENALTIES
    ]

    for shorter, longer in pairwise(lengths):
        assert all(a <= b for a, b in zip(shorter, longer, strict=True))
    assert lengths[0] != lengths[-1]


@pytest.mark.parametrize("length_penalty", PENALTIES)
@torch.no_grad()
def test_decode_logprobs_alphas_and_betas_are_those_of_teacher_forcing(
    length_penalty: float,
) -> None:
    torch.manual_seed(5)
    config = AttentionConfig(embed_dim=6, decoder_dim=10, attention_dim=5)
    decoder = AttentionDecoder(config, vocab_size=12, encoder_dim=8).eval()
    for parameter in decoder.parameters():
        parameter.mul_(3)  # opinionated: maps and words differ between hypotheses
    annotations = torch.randn(4, 9, 8)

    options = DecodingOptions(
        beam_size=6, num_captions=6, max_length=8, length_penalty=length_penalty
    )
    results = decode(TorchSteps(decoder), ImageFeatures(annotations), options)

    for image, result in enumerate(results):
        assert len(result.captions) == 6
        for caption in result.captions:
            words = torch.tensor([[SPECIAL.bos, *caption.token_ids]])
            output = decoder(words, decoder.init_state(annotations[image : image + 1]))
            logits = decoder.logits(output.readout)[0]  # (T + 1, V)
            logits[:, [SPECIAL.pad, SPECIAL.bos, SPECIAL.unk]] = -torch.inf
            logits[0, SPECIAL.eos] = -torch.inf
            targets = torch.tensor([*caption.token_ids, SPECIAL.eos])
            expected = logits.log_softmax(dim=-1)[torch.arange(len(targets)), targets]
            np.testing.assert_allclose(caption.logprobs, expected, atol=1e-5, rtol=1e-4)
            np.testing.assert_allclose(caption.alphas, output.alphas[0, :-1], atol=1e-5, rtol=1e-4)
            np.testing.assert_allclose(caption.betas, output.betas[0, :-1], atol=1e-5, rtol=1e-4)
            assert caption.sum_logprob == pytest.approx(float(expected.sum()), abs=1e-4)
            assert caption.avg_logprob == pytest.approx(float(expected.mean()), abs=1e-4)


def test_decode_needs_no_gradients() -> None:
    images = toy_images(1, WORDS, seed=6).requires_grad_(True)

    (result,) = _decode_toy(images, DecodingOptions())

    assert isinstance(result.captions[0].logprobs, np.ndarray)


def test_sample_draws_each_caption_as_often_as_it_is_probable() -> None:
    count = 4000
    image = toy_images(1, 3, seed=7, scale=1.0)
    options = DecodingOptions(length_penalty=0.0, max_length=2)

    drawn = sample(
        ToyDecoder(),
        ImageFeatures(image),
        count=count,
        max_length=1,
        generator=torch.Generator().manual_seed(0),
    )

    first = torch.tensor(next_logprobs(image[0], ())).exp()
    frequency = torch.bincount(drawn[:, 0], minlength=len(first)) / count
    assert (frequency - first).abs().max() < 4 * 0.5 / count**0.5
    ended = [(drawn[:, 0] == word) & (drawn[:, 1] == SPECIAL.eos) for word in range(len(first))]
    single = {
        scored.words[0]: scored.score
        for scored in exhaustive_search(image[0], options)
        if len(scored.words) == 1
    }
    for word, logprob in single.items():
        assert float(ended[word].float().mean()) == pytest.approx(
            torch.tensor(logprob).exp().item(), abs=0.03
        )


def test_sample_rows_are_grouped_by_image_and_padded_after_eos() -> None:
    images = toy_images(3, WORDS, seed=8)
    images[:, :, [SPECIAL.pad, SPECIAL.bos, SPECIAL.unk]] += 20
    images[1, len(SPECIAL) :, SPECIAL.eos] = 40.0  # the second image's captions have one word

    drawn = sample(
        ToyDecoder(),
        ImageFeatures(images),
        count=4,
        max_length=6,
        generator=torch.Generator().manual_seed(0),
    )

    assert drawn.shape[0] == 12
    assert drawn.shape[1] <= 7
    for row, ids in enumerate(drawn.tolist()):
        length = ids.index(SPECIAL.eos) if SPECIAL.eos in ids else len(ids)
        assert length >= 1
        assert min(ids[:length]) >= len(SPECIAL)
        assert set(ids[length + 1 :]) <= {SPECIAL.pad}
        assert row // 4 != 1 or length == 1
