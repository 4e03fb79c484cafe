"""Encode once, ask often: the captioner's halves give what the whole gives, and given captions are
scored as they would be one by one."""

import numpy as np
import pytest
import torch

from evaluation.metrics.echoes import is_echo
from models.bundles.checkpoint import Checkpoint, load_checkpoint
from models.caption import Caption
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.loading import build_captioner
from models.preprocessing import PreparedImage
from models.tokenizer import Vocabulary
from tests.unit.toys import save_tiny_bundle, tiny_config, tiny_model


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> NetworkCaptioner:
    folder = save_tiny_bundle(tmp_path_factory.mktemp("weights") / "tiny")
    return build_captioner(load_checkpoint(folder), precision="float32")


def noisy_images(count: int) -> list[PreparedImage]:
    """Prepared images of coarse noise, each another."""
    small = np.random.default_rng(0).integers(0, 256, (count, 3, 7, 7), dtype=np.uint8)
    pixels = small.repeat(8, axis=2).repeat(8, axis=3)
    return [PreparedImage(each, 90, 70, "PNG") for each in pixels]


def test_encode_equals_encode_pixels(captioner: NetworkCaptioner) -> None:
    images = noisy_images(3)

    pixels = torch.from_numpy(np.stack([image.pixels for image in images]))

    expected = captioner.encode_pixels(pixels).annotations
    assert torch.equal(captioner.encode(images).annotations, expected)


def test_caption_equals_caption_features_of_what_encode_gives(
    captioner: NetworkCaptioner,
) -> None:
    images = noisy_images(3)
    options = DecodingOptions(beam_size=4, num_captions=3)

    captions = captioner.caption_features(captioner.encode(images), options)

    for one, other in zip(captioner.caption(images, options), captions, strict=True):
        assert one.grid == other.grid
        for mine, twin in zip(one.hypotheses, other.hypotheses, strict=True):
            assert (mine.text, mine.logprob, mine.confidence) == (
                twin.text,
                twin.logprob,
                twin.confidence,
            )
            for word, same in zip(mine.words, twin.words, strict=True):
                assert np.array_equal(word.alpha, same.alpha)


def test_best_hypothesis_is_the_first_and_its_mean_counts_the_end_token(
    captioner: NetworkCaptioner,
) -> None:
    options = DecodingOptions(beam_size=4, num_captions=3, length_penalty=1.0)

    for caption in captioner.caption(noisy_images(3), options):
        assert caption.best is caption.hypotheses[0]
        means = [each.avg_logprob for each in caption.hypotheses]
        assert means == sorted(means, reverse=True)  # they are ranked by it
        for mean, each in zip(means, caption.hypotheses, strict=True):
            assert mean == pytest.approx(each.logprob / (len(each.words) + 1))


def test_caption_features_avoids_echoes_where_the_options_say_so() -> None:
    words = ("a", "horse", "cat", "cow", "dog", "on", "sheep", "near")
    config = tiny_config()
    checkpoint = Checkpoint(tiny_model(config), config, Vocabulary(words), {}, "0" * 64)
    captioner = build_captioner(checkpoint, precision="float32")
    features = captioner.encode(noisy_images(8))
    free = DecodingOptions(beam_size=20, num_captions=20, max_length=4, length_penalty=0.0)
    strict = free.model_copy(update={"avoid_echoes": True})

    before = texts(captioner.caption_features(features, free))
    after = texts(captioner.caption_features(features, strict))

    assert any(map(is_echo, before))
    assert not any(map(is_echo, after))


def texts(captions: list[Caption]) -> list[str]:
    return [each.text for caption in captions for each in caption.hypotheses]


def test_token_ids_of_unknown_words_are_unks(captioner: NetworkCaptioner) -> None:
    assert captioner.token_ids(["a", "zebra", "dog"]) == [4, Vocabulary.unk_id, 5]
    assert captioner.token_ids([]) == []


def test_score_tokens_of_its_own_caption_are_the_probabilities_it_was_found_with(
    captioner: NetworkCaptioner,
) -> None:
    """Decoding shares among the words that may follow what teacher forcing shares among all."""
    annotations = captioner.encode(noisy_images(2))
    captions = captioner.caption_features(annotations, DecodingOptions(beam_size=3))
    ids = [[captioner.token_ids([word.text for word in each.best.words])] for each in captions]

    for (score,), caption in zip(captioner.score_tokens(annotations, ids), captions, strict=True):
        words = caption.best.words
        found = np.stack([word.alpha.reshape(-1) for word in words])
        np.testing.assert_allclose(score.alphas, found, atol=1e-6)
        assert (np.exp(score.logprobs) <= [word.probability + 1e-6 for word in words]).all()


def test_score_tokens_ragged_captions_equal_each_alone(captioner: NetworkCaptioner) -> None:
    annotations = captioner.encode(noisy_images(4))
    texts = [["a red dog runs on grass", "a zebra"], [], ["cat"], ["a dog", "", "a cat sits"]]
    ids = [[captioner.token_ids(text.split()) for text in own] for own in texts]

    scores = captioner.score_tokens(annotations, ids)

    assert [[len(score.logprobs) for score in own] for own in scores] == [
        [6, 2],
        [],
        [1],
        [2, 0, 3],
    ]
    for image, (own, captions) in enumerate(zip(scores, ids, strict=True)):
        for score, caption in zip(own, captions, strict=True):
            assert score.alphas.shape == (len(caption), 196)
            assert score.logprobs.dtype == score.alphas.dtype == np.float32
            ((alone,),) = captioner.score_tokens(annotations[image : image + 1], [[caption]])
            np.testing.assert_allclose(score.logprobs, alone.logprobs, atol=1e-5)
            np.testing.assert_allclose(score.alphas, alone.alphas, atol=1e-6)


def test_score_tokens_without_captions_are_none(captioner: NetworkCaptioner) -> None:
    annotations = captioner.encode(noisy_images(2))

    assert captioner.score_tokens(annotations, [[], []]) == [[], []]
    assert captioner.score_tokens(annotations[:0], []) == []
