"""What is scored is what is served: the evaluation's captions are the captioner's own."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.captioning import (
    caption_images,
    caption_texts,
    caption_together,
    draw_sheets,
    group_by_encoding,
)
from evaluation.metrics.echoes import ECHOES, echo_share
from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.metrics.meteor import meteor
from evaluation.scoring import evaluate_sets, score_captions, score_sets
from models.bundles.checkpoint import Checkpoint
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions, ModelConfig
from models.decoders.config import AttentionConfig
from models.encoders import default_preprocess
from models.features import ImageFeatures
from models.loading import build_captioner
from models.network import CaptioningModel, build_model
from models.preprocessing import DecodeLimits
from models.runtime.torch import TorchRuntime
from models.tokenizer import Vocabulary
from training.data.datasets import CaptionedImage, DataError
from training.data.images import ImageReader
from training.data.synthetic_shapes import generate

VOCABULARY = Vocabulary(
    ["a", "red", "green", "blue", "circle", "square", "triangle", "above", "below"]
)
OPTIONS = DecodingOptions(beam_size=3, max_length=6)


@pytest.fixture(scope="module")
def model() -> CaptioningModel:
    """Random weights; those that see the image are made large, so that captions differ from one to
    the next."""
    torch.manual_seed(1)
    model = build_model(config()).eval().requires_grad_(False)
    for name in ("init_hidden", "init_cell", "readout_context", "lstm_context"):
        model.decoder.get_parameter(f"{name}.weight").mul_(10)
    model.decoder.get_parameter("output.weight").mul_(5)
    return model


def config() -> ModelConfig:
    return ModelConfig(
        name="tiny",
        encoder="tiny",
        vocab_size=len(VOCABULARY),
        decoder=AttentionConfig(embed_dim=16, decoder_dim=16, attention_dim=16),
        preprocess=default_preprocess("tiny", 56),
        decoding=OPTIONS,
    )


@pytest.fixture(scope="module")
def captioner(model: CaptioningModel) -> NetworkCaptioner:
    checkpoint = Checkpoint(model, config(), VOCABULARY, {}, "0" * 64)
    return build_captioner(checkpoint, precision="float32")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[CaptionedImage]:
    """Twenty drawn images: more than a batch."""
    folder = tmp_path_factory.mktemp("photos")
    images = []
    for number, drawn in enumerate(generate(20, 1, 80)):
        drawn.image.save(folder / f"{number}.png")
        images.append(CaptionedImage(f"{number}.png", folder / f"{number}.png", drawn.captions))
    return images


def path_of(example: CaptionedImage) -> Path:
    assert example.path is not None
    return example.path


def served(captioner: NetworkCaptioner, example: CaptionedImage, options: DecodingOptions) -> str:
    """One upload, alone, as the service captions it."""
    image = captioner.prepare(path_of(example).read_bytes(), DecodeLimits())
    return captioner.caption([image], options)[0].best.text


@pytest.mark.parametrize(
    "options", [OPTIONS, DecodingOptions(beam_size=1, max_length=4, length_penalty=0.0)]
)
def test_caption_images_in_batches_equal_what_the_service_says_one_by_one(
    captioner: NetworkCaptioner, images: list[CaptionedImage], options: DecodingOptions
) -> None:
    progress: list[int] = []
    captions = caption_images(captioner, images, options, progress.append)
    assert len(set(captions)) > 2
    assert captions == [served(captioner, example, options) for example in images]
    assert sum(progress) == len(images)


def test_caption_texts_of_the_trainer_s_pixels_equal_what_the_service_says(
    captioner: NetworkCaptioner, images: list[CaptionedImage]
) -> None:
    pixels = ImageReader(config().preprocess, 0)([path_of(example) for example in images])
    captions = caption_texts(captioner, captioner.encode_pixels(pixels), OPTIONS)
    assert captions == caption_images(captioner, images, OPTIONS, lambda _: None)


def other_checkpoint(name: str, seed: int, *, same_encoder: bool) -> Checkpoint:
    """Another decoder, behind an encoder of the same weights as `model`'s, built on its own, or of
    others."""
    torch.manual_seed(1 if same_encoder else 10 + seed)
    built = build_model(config()).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in built.decoder.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    described = config().model_copy(update={"name": name})
    return Checkpoint(built, described, VOCABULARY, {}, "0" * 64)


def other_captioner(name: str, seed: int, *, same_encoder: bool) -> NetworkCaptioner:
    checkpoint = other_checkpoint(name, seed, same_encoder=same_encoder)
    return build_captioner(checkpoint, precision="float32")


def test_caption_together_equals_each_captioner_alone_and_encodes_once(
    images: list[CaptionedImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [
        other_captioner(name, seed, same_encoder=True) for name, seed in (("one", 1), ("two", 2))
    ]
    options = [OPTIONS, DecodingOptions(beam_size=1, max_length=4)]
    expected = [
        caption_images(each, images, own, lambda _: None)
        for each, own in zip(alone, options, strict=True)
    ]
    (group,) = group_by_encoding(alone)
    encode = TorchRuntime.encode
    encoded: list[int] = []

    def counted(self: TorchRuntime, pixels: torch.Tensor) -> ImageFeatures:
        encoded.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(TorchRuntime, "encode", counted)
    assert caption_together(group, images, options, lambda _: None) == expected
    assert expected[0] != expected[1]
    assert encoded == [16, 4]


def test_group_by_encoding_other_weights_or_precision_stand_apart() -> None:
    checkpoint = other_checkpoint("one", 1, same_encoder=True)
    one = build_captioner(checkpoint, precision="float32")
    fast = build_captioner(checkpoint, precision="bfloat16")
    two = other_captioner("two", 2, same_encoder=True)
    other = other_captioner("three", 3, same_encoder=False)
    assert group_by_encoding([one, two, other, fast]) == [[one, two], [other], [fast]]


def test_score_sets_many_at_once_equal_each_alone(
    images: list[CaptionedImage], one_meteor: Callable[[], AbstractContextManager[None]]
) -> None:
    sets = {"few": images[:3], "more": images[3:8]}
    captions = {"few": ["a red circle"] * 3, "more": ["a blue square above a circle"] * 5}
    with one_meteor():
        scores = score_sets(sets, captions)
    for name, part in sets.items():
        references = [example.captions for example in part]
        expected = score_captions(references, captions[name], with_meteor=False)
        with one_meteor():
            whole = meteor(references, captions[name])
        expected.append(echo_share(captions[name]))
        assert scores[name] == [*expected, *([whole] if whole else [])]


def test_score_sets_main_object_is_there_where_an_image_has_one() -> None:
    example = CaptionedImage("dog", None, ("A dog runs.", "The dog is running."))
    (scores,) = score_sets({"dogs": [example]}, {"dogs": ["a puppy"]}, with_meteor=False).values()
    assert {score.name: score.value for score in scores}[MAIN_OBJECT] == 1.0


@pytest.mark.parametrize("content", [b"no picture", None], ids=["damaged", "missing"])
def test_caption_images_unreadable_image_is_named(
    captioner: NetworkCaptioner, images: list[CaptionedImage], tmp_path: Path, content: bytes | None
) -> None:
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.jpg"):
        caption_images(
            captioner,
            [*images[:2], CaptionedImage("bad", bad, ("A cat.",))],
            OPTIONS,
            lambda _: None,
        )


def test_caption_images_without_a_file_is_named(captioner: NetworkCaptioner) -> None:
    with pytest.raises(DataError, match="words-only"):
        caption_images(
            captioner, [CaptionedImage("words-only", None, ("A cat.",))], OPTIONS, lambda _: None
        )


def test_evaluate_sets_scores_each_set_by_its_name_with_the_field_s_metrics(
    captioner: NetworkCaptioner, images: list[CaptionedImage]
) -> None:
    sets = {"shapes dev": images[:8], "shapes test": images[8:]}
    result = evaluate_sets(captioner, sets, OPTIONS, lambda _: None, with_meteor=False)
    assert result.metrics["decoding"] == OPTIONS.model_dump()
    assert result.metrics["precision"] == "float32"
    assert result.metrics["sets"].keys() == result.captions.keys() == sets.keys()
    for name, part in sets.items():
        scores = dict(result.metrics["sets"][name])
        assert (scores.pop("photos"), scores.pop("references")) == (len(part), 2 * len(part))
        assert scores.pop(ECHOES) == round(echo_share(result.captions[name]).value, 4)
        expected = score_captions(
            [example.captions for example in part], result.captions[name], with_meteor=False
        )
        assert scores == {score.name: pytest.approx(score.value, abs=5e-5) for score in expected}
        assert {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"} == scores.keys()


def test_evaluate_sets_twice_gives_the_same_numbers(
    captioner: NetworkCaptioner, images: list[CaptionedImage]
) -> None:
    first, second = (
        evaluate_sets(captioner, {"shapes": images}, OPTIONS, lambda _: None, with_meteor=False)
        for _ in range(2)
    )
    assert first == second


def test_evaluate_sets_without_java_leaves_meteor_out(
    captioner: NetworkCaptioner,
    images: list[CaptionedImage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("java") is None
    result = evaluate_sets(captioner, {"shapes": images[:2]}, OPTIONS, lambda _: None)
    assert "METEOR" not in result.metrics["sets"]["shapes"]


def test_draw_sheets_gives_an_image_of_captions_and_maps_for_each_image(
    captioner: NetworkCaptioner, images: list[CaptionedImage]
) -> None:
    pixels = ImageReader(config().preprocess, 0)([path_of(example) for example in images[:3]])
    sheets = draw_sheets(captioner, pixels, OPTIONS)
    assert len(sheets) == 3
    for sheet in sheets:
        assert isinstance(sheet, Image.Image)
        assert np.asarray(sheet).std() > 1
