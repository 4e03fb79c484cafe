"""Captions of the Transformer decoder: searched, drawn, and scored as when they are read anew."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.config import DecodingOptions
from models.decoders.transformer import TransformerDecoder
from models.decoding import decode
from models.features import ImageFeatures
from models.runtime.torch import TorchSteps
from models.sampling import sample
from tests.unit.toy_transformer import B, random_annotations, small_decoder


@pytest.fixture
def decoder() -> TransformerDecoder:
    return small_decoder()


@pytest.fixture
def annotations() -> Tensor:
    return random_annotations()


@torch.no_grad()
def test_decode_wide_beam_finds_a_caption_at_least_as_likely_as_greedy(
    decoder: TransformerDecoder, annotations: Tensor
) -> None:
    plain = {"max_length": 5, "length_penalty": 0.0}
    steps = TorchSteps(decoder)
    greedy = decode(steps, ImageFeatures(annotations), DecodingOptions(beam_size=1, **plain))
    wide = decode(
        steps, ImageFeatures(annotations), DecodingOptions(beam_size=20, num_captions=3, **plain)
    )

    for one, other in zip(greedy, wide, strict=True):
        assert other.captions[0].sum_logprob >= one.captions[0].sum_logprob - 1e-4
        assert len(other.captions) == 3


@torch.no_grad()
def test_decode_scores_and_maps_are_those_of_reading_the_caption_anew(
    decoder: TransformerDecoder, annotations: Tensor
) -> None:
    results = decode(
        TorchSteps(decoder),
        ImageFeatures(annotations),
        DecodingOptions(beam_size=4, num_captions=4, max_length=5),
    )

    for index, result in enumerate(results):
        for caption in result.captions:
            ids = torch.tensor([[1, *caption.token_ids]])
            read = decoder(ids, decoder.init_state(annotations[index : index + 1]))
            words = len(caption.token_ids)
            np.testing.assert_allclose(caption.alphas, read.alphas[0, :words], atol=1e-5, rtol=1e-5)
            logits = decoder.logits(read.readout[0])
            logits[:, [0, 1, 3]] = -torch.inf  # never emitted
            logits[0, 2] = -torch.inf
            expected = logits.log_softmax(dim=-1)[torch.arange(words + 1), [*caption.token_ids, 2]]
            np.testing.assert_allclose(caption.logprobs, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_sample_captions_of_one_image_differ_and_end(
    decoder: TransformerDecoder, annotations: Tensor
) -> None:
    generator = torch.Generator().manual_seed(0)

    drawn = sample(decoder, ImageFeatures(annotations), count=8, max_length=5, generator=generator)

    assert drawn.shape[0] == B * 8
    assert drawn.shape[1] <= 6
    assert len({tuple(row) for row in drawn[:8].tolist()}) > 1
