"""From uploaded bytes to captions and their maps: batches, numbers that belong together, and where
the grid lies."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models.bundles.checkpoint import Checkpoint, load_checkpoint
from models.caption import Caption
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.encoders import default_preprocess, load_pretrained
from models.errors import CheckpointError, EmptyImageError, OptionsError, UnknownModelError
from models.loading import build_captioner, load_captioner
from models.preprocessing import DecodeLimits, PreparedImage
from models.runtime.torch import Precision
from models.tokenizer import Vocabulary
from tests.unit.toys import WORDS, save_tiny_bundle, tiny_config, tiny_model

LIMITS = DecodeLimits()
ORIENTATION_TAG = 0x0112
HOW_STORED = {  # orientation -> what was done to the upright image when it was stored
    1: None,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    5: Image.Transpose.TRANSPOSE,
}


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> NetworkCaptioner:
    folder = tmp_path_factory.mktemp("weights")
    save_tiny_bundle(folder / "tiny")
    return load_captioner(folder, "tiny", precision="float32")


@pytest.fixture(scope="module")
def looking_glass() -> NetworkCaptioner:
    """A captioner whose Inception only blurs (kernels that keep the size pass their middle on), so
    that an annotation is bright where the image is."""
    config = tiny_config(encoder="inception_v3", preprocess=default_preprocess("inception_v3", 251))
    model = tiny_model(config)
    for module in model.encoder.modules():
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            nn.init.constant_(module.weight, 0.0 if module.padding != (0, 0) else 1.0)
            module.weight.data[:, :, height // 2, width // 2] = 1.0
            module.weight.data /= module.weight[0].sum()
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    model.requires_grad_(False)
    checkpoint = Checkpoint(model, config, Vocabulary(WORDS), {}, "0" * 64)
    return build_captioner(checkpoint, precision="float32")


def _noise(width: int, height: int, seed: int) -> Image.Image:
    """Coarse colored blobs."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _png(image: Image.Image, orientation: int = 1) -> bytes:
    """A file whose pixels are turned and whose EXIF block says how to turn them back."""
    how = HOW_STORED[orientation]
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    file = BytesIO()
    (image if how is None else image.transpose(how)).save(file, "PNG", exif=exif)
    return file.getvalue()


def _prepared(captioner: NetworkCaptioner, count: int) -> list[PreparedImage]:
    return [
        captioner.prepare(_png(_noise(90 + 10 * seed, 70, seed)), LIMITS) for seed in range(count)
    ]


def _assert_same(one: Caption, other: Caption) -> None:
    assert one.grid == other.grid
    assert [hypothesis.text for hypothesis in one.hypotheses] == [
        hypothesis.text for hypothesis in other.hypotheses
    ]
    for a, b in zip(one.hypotheses, other.hypotheses, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        assert a.confidence == pytest.approx(b.confidence, abs=1e-4)
        for word, twin in zip(a.words, b.words, strict=True):
            np.testing.assert_allclose(word.alpha, twin.alpha, atol=1e-5)


def test_caption_batch_equals_single(captioner: NetworkCaptioner) -> None:
    images = _prepared(captioner, 5)
    options = DecodingOptions(beam_size=4, num_captions=3)

    batch = captioner.caption(images, options)

    assert len(batch) == 5
    for image, caption in zip(images, batch, strict=True):
        (single,) = captioner.caption([image], options)
        _assert_same(single, caption)
    # They saw different images.
    assert len({round(caption.hypotheses[0].logprob, 4) for caption in batch}) > 1


def test_caption_no_images_gives_no_captions(captioner: NetworkCaptioner) -> None:
    assert captioner.caption([], DecodingOptions()) == []


def test_caption_same_batch_twice_gives_the_same(captioner: NetworkCaptioner) -> None:
    images = _prepared(captioner, 2)

    for one, other in zip(
        *(captioner.caption(images, DecodingOptions()) for _ in range(2)), strict=True
    ):
        _assert_same(one, other)


def test_caption_numbers_of_a_hypothesis_belong_together(captioner: NetworkCaptioner) -> None:
    options = DecodingOptions(beam_size=6, num_captions=6, max_length=7)

    for caption in captioner.caption(_prepared(captioner, 3), options):
        assert len(caption.hypotheses) == 6
        for hypothesis in caption.hypotheses:
            assert hypothesis.text == " ".join(word.text for word in hypothesis.words)
            assert 1 <= len(hypothesis.words) <= 7
            assert set(hypothesis.text.split()) <= set(WORDS)
            tokens = len(hypothesis.words) + 1  # the end token counts
            assert hypothesis.confidence == pytest.approx(
                math.exp(hypothesis.logprob / tokens), abs=1e-6
            )
            words_logprob = sum(math.log(word.probability) for word in hypothesis.words)
            assert hypothesis.logprob <= words_logprob + 1e-5
            for word in hypothesis.words:
                assert 0 <= word.probability <= 1
                assert 0 <= word.beta <= 1
                assert word.alpha.shape == (14, 14)
                assert word.alpha.dtype == np.float32
                assert word.alpha.min() >= 0
                assert word.alpha.sum() == pytest.approx(1, abs=1e-5)


def test_caption_more_captions_than_beams_is_refused(captioner: NetworkCaptioner) -> None:
    with pytest.raises(OptionsError, match="num_captions"):
        captioner.caption(_prepared(captioner, 1), DecodingOptions(beam_size=1, num_captions=2))


@pytest.mark.parametrize("orientation", HOW_STORED)
def test_caption_rotated_image_is_the_upright_one(
    captioner: NetworkCaptioner, orientation: int
) -> None:
    upright = _noise(120, 60, seed=3)

    expected = captioner.prepare(_png(upright), LIMITS)
    prepared = captioner.prepare(_png(upright, orientation), LIMITS)

    assert (prepared.width, prepared.height) == (120, 60)
    assert np.array_equal(prepared.pixels, expected.pixels)
    one, other = captioner.caption([expected, prepared], DecodingOptions())
    _assert_same(one, other)
    assert other.grid.in_pixels(prepared.width, prepared.height) == pytest.approx((0, 0, 120, 60))


@pytest.mark.parametrize("orientation", [1, 5, 6])
def test_caption_grid_cells_lie_on_what_their_annotations_see(
    looking_glass: NetworkCaptioner, orientation: int
) -> None:
    dark = Image.new("RGB", (640, 360), (40, 40, 40))
    image = looking_glass.prepare(_png(dark), LIMITS)
    (caption,) = looking_glass.caption([image], DecodingOptions(beam_size=1, max_length=1))
    left, top, right, bottom = caption.grid.in_pixels(image.width, image.height)
    width, height = (right - left) / caption.grid.columns, (bottom - top) / caption.grid.rows
    cells = [(0, 0), (6, 7), (3, 12), (13, 13)]
    prepared = []
    for row, column in cells:
        canvas = dark.copy()
        lit = (
            round(left + column * width),
            round(top + row * height),
            round(left + (column + 1) * width),
            round(top + (row + 1) * height),
        )
        canvas.paste((255, 255, 255), lit)
        prepared.append(
            torch.from_numpy(looking_glass.prepare(_png(canvas, orientation), LIMITS).pixels)
        )

    annotations = looking_glass.encode_pixels(torch.stack(prepared)).annotations  # (B, L, D)

    brightest = annotations.mean(dim=-1).argmax(dim=-1).tolist()
    assert [divmod(location, caption.grid.columns) for location in brightest] == cells


def test_caption_grid_of_inception_leaves_its_rim_out(looking_glass: NetworkCaptioner) -> None:
    image = looking_glass.prepare(_png(Image.new("RGB", (502, 251))), LIMITS)

    (caption,) = looking_glass.caption([image], DecodingOptions(beam_size=1, max_length=1))

    assert (caption.grid.rows, caption.grid.columns) == (14, 14)
    assert caption.grid.in_pixels(image.width, image.height) == pytest.approx(
        (27.0, 13.5, 475.0, 237.5)
    )


def test_caption_grid_of_an_image_decoded_at_reduced_size_is_in_pixels_of_the_file(
    captioner: NetworkCaptioner,
) -> None:
    file = BytesIO()
    _noise(1600, 1200, seed=1).save(file, "JPEG")

    image = captioner.prepare(file.getvalue(), LIMITS)

    (caption,) = captioner.caption([image], DecodingOptions())
    assert caption.grid.in_pixels(image.width, image.height) == pytest.approx((0, 0, 1600, 1200))


@pytest.mark.parametrize(
    ("name", "size_pixels"),
    [("inception_v3", 251), ("efficientnet_lite0", 224), ("mobilenet_v2", 224)],
)
def test_encode_bfloat16_is_close_to_float32(
    shared_encoders: Path, name: str, size_pixels: int
) -> None:
    config = tiny_config(encoder=name, preprocess=default_preprocess(name, size_pixels))
    model = tiny_model(config)
    model.encoder = load_pretrained(name, size_pixels, shared_encoders)
    checkpoint = Checkpoint(
        model.eval().requires_grad_(False), config, Vocabulary(WORDS), {}, "0" * 64
    )
    precise, fast = (
        build_captioner(checkpoint, precision=precision) for precision in ("float32", "bfloat16")
    )
    pixels = torch.from_numpy(
        precise.prepare(_png(_noise(400, 300, seed=5)), LIMITS).pixels
    ).unsqueeze(0)

    expected = precise.encode_pixels(pixels).annotations
    found = fast.encode_pixels(pixels).annotations

    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert float(torch.cosine_similarity(found, expected, dim=-1).min()) > 0.98


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_caption_every_precision_captions(tmp_path: Path, precision: Precision) -> None:
    save_tiny_bundle(tmp_path / "tiny")
    captioner = load_captioner(tmp_path, "tiny", precision=precision)

    (caption,) = captioner.caption(_prepared(captioner, 1), captioner.info.config.decoding)

    assert captioner.precision in ("float32", "bfloat16")
    assert caption.hypotheses[0].text


def test_info_tells_what_was_loaded(captioner: NetworkCaptioner, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save_tiny_bundle(tmp_path / "tiny"))

    info = captioner.info

    assert (info.name, info.digest, info.config) == ("tiny", checkpoint.digest, checkpoint.config)
    assert info.metrics == {"cider_d": 0.5}
    assert info.parameters == sum(
        tensor.numel() for tensor in checkpoint.model.state_dict().values()
    )


def test_prepare_bad_upload_is_refused(captioner: NetworkCaptioner) -> None:
    with pytest.raises(EmptyImageError):
        captioner.prepare(b"", LIMITS)


def test_load_captioner_unknown_or_damaged_model_is_refused(tmp_path: Path) -> None:
    (save_tiny_bundle(tmp_path / "tiny") / "vocab.json").write_bytes(b"{}")

    with pytest.raises(UnknownModelError, match="There are: tiny"):
        load_captioner(tmp_path, "other")
    with pytest.raises(CheckpointError, match=r"vocab\.json does not match"):
        load_captioner(tmp_path, "tiny")
