"""The Vision Transformer: its patches, its places, its geometry, and how it goes by name like other
encoders."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.config import ModelConfig
from models.decoders.config import AttentionConfig, DecoderConfig, TransformerConfig
from models.decoders.show_attend_tell import AttentionDecoder
from models.decoders.transformer import TransformerDecoder
from models.encoders import build_encoder, default_preprocess, load_pretrained
from models.encoders.base import Encoder
from models.encoders.vit import SPEC, VisionTransformer
from models.errors import ConfigError
from models.network import build_model, normalize

NAME, SIZE, PATCH = "vit_patch16", 224, 16


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build_encoder(NAME, SIZE)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def _patchwise() -> Encoder:
    """A ViT without its blocks: each annotation is of its own patch and place alone."""
    torch.manual_seed(0)
    encoder = build_encoder(NAME, SIZE)
    encoder.body.blocks = nn.Identity()
    return encoder


@torch.no_grad()
def test_vit_patches_are_a_linear_projection_of_their_pixels(images: Tensor) -> None:
    encoder = _patchwise()
    body = encoder.body
    assert isinstance(body, VisionTransformer)
    assert body.patches.bias is not None
    row, column = 3, 5
    pixels = images[
        1, :, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH
    ].flatten()

    annotation = encoder(images)[1, row * 14 + column]

    projected = (
        body.patches.weight.flatten(1) @ pixels
        + body.patches.bias
        + body.positions[row * 14 + column]
    )
    # Equations 1 and 4.
    torch.testing.assert_close(annotation, body.norm(projected), atol=1e-4, rtol=1e-4)


def test_vit_cell_lies_where_the_grid_says(images: Tensor) -> None:
    encoder = _patchwise()
    image = images[:1].clone().requires_grad_()
    row, column = 6, 7

    (gradient,) = torch.autograd.grad(encoder(image)[0, row * 14 + column].square().sum(), image)

    rows, columns = gradient[0].abs().sum(dim=0).nonzero().T
    for places, cell in ((rows, row), (columns, column)):
        first = encoder.offset_pixels + cell * encoder.stride
        assert (int(places.min()), int(places.max())) == (first, first + encoder.stride - 1)


@torch.no_grad()
def test_vit_grid_and_geometry_are_those_announced(encoder: Encoder, images: Tensor) -> None:
    assert (encoder.feature_dim, encoder.stride, encoder.grid_size, encoder.offset_pixels) == (
        256,
        16,
        (14, 14),
        0,
    )
    assert encoder(images).shape == (2, 196, 256)


@torch.no_grad()
def test_vit_places_are_told_apart(encoder: Encoder) -> None:
    annotations = encoder(torch.zeros(1, 3, SIZE, SIZE))[0]

    nearest = torch.cdist(annotations, annotations).fill_diagonal_(torch.inf).min()
    assert nearest > 1e-3  # all patches of an even image are alike but for their places


@torch.no_grad()
def test_vit_patch_sees_the_whole_image(encoder: Encoder, images: Tensor) -> None:
    other = images[:1].clone()
    other[:, :, -PATCH:, -PATCH:] += 1.0

    moved = (encoder(other) - encoder(images[:1])).abs().amax(dim=2)

    assert bool((moved > 1e-5).all())


@torch.no_grad()
def test_vit_batch_equals_single(encoder: Encoder, images: Tensor) -> None:
    batch = encoder(images)

    for index in range(2):
        torch.testing.assert_close(
            encoder(images[index : index + 1])[0], batch[index], atol=1e-4, rtol=1e-4
        )


@torch.no_grad()
def test_vit_training_mode_gives_the_same_as_evaluation_mode(
    encoder: Encoder, images: Tensor
) -> None:
    assert torch.equal(encoder.train()(images), encoder.eval()(images))


@torch.no_grad()
def test_vit_channels_last_in_bfloat16_is_near(encoder: Encoder, images: Tensor) -> None:
    exact = encoder(images)
    fast = build_encoder(NAME, SIZE).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fast.load_state_dict(encoder.state_dict())

    with torch.autocast("cpu", torch.bfloat16):
        found = fast(images.contiguous(memory_format=torch.channels_last)).float()

    # The annotations have a standard deviation of 1.
    assert float((found - exact).square().mean().sqrt()) < 0.05


def test_vit_gradients_reach_every_parameter(images: Tensor) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(NAME, SIZE)

    (encoder(images[:1]) ** 3).sum().backward()

    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize("size_pixels", [208, 223, 225, 299])
def test_build_encoder_vit_wrong_size_is_refused_with_the_right_one(size_pixels: int) -> None:
    with pytest.raises(
        ConfigError, match=f"'{NAME}' has a 14 x 14 map for 224 pixels, not for {size_pixels}"
    ):
        build_encoder(NAME, size_pixels)


def test_vit_image_of_another_size_is_refused(encoder: Encoder) -> None:
    with pytest.raises(
        ConfigError, match=r"\(240, 240\) pixels give a \(15, 15\) grid, not \(14, 14\)"
    ):
        encoder(torch.zeros(1, 3, 240, 240))


@pytest.mark.parametrize("has_folder", [True, False])
def test_load_pretrained_vit_is_refused_even_where_a_file_lies(
    tmp_path: Path, has_folder: bool
) -> None:
    save_file(SPEC.build(16).state_dict(), tmp_path / f"{NAME}.safetensors")

    with pytest.raises(ConfigError, match=f"no pretrained weights for '{NAME}'"):
        load_pretrained(NAME, SIZE, tmp_path if has_folder else None)


def test_default_preprocess_vit_maps_pixels_to_minus_one_to_one() -> None:
    preprocess = default_preprocess(NAME, SIZE)
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, SIZE, SIZE)

    images = normalize(pixels, preprocess)

    assert (preprocess.size_pixels, preprocess.resample) == (SIZE, "bicubic")
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("decoder", "kind"),
    [
        (
            TransformerConfig(embed_dim=16, decoder_dim=24, layers=2, heads=4),
            TransformerDecoder,
        ),
        (AttentionConfig(embed_dim=16, decoder_dim=24, attention_dim=8), AttentionDecoder),
    ],
)
@torch.no_grad()
def test_build_model_vit_captions_behind_any_decoder(
    images: Tensor, decoder: DecoderConfig, kind: type
) -> None:
    model = build_model(
        ModelConfig(
            name="vit",
            encoder=NAME,
            decoder=decoder,
            vocab_size=9,
            preprocess=default_preprocess(NAME, SIZE),
        )
    ).eval()

    output = model.decoder.step(torch.tensor([1, 1]), model.decoder.init_state(model(images)))

    assert isinstance(model.decoder, kind)
    assert (output.logits.shape, output.alpha.shape) == ((2, 9), (2, 196))


@torch.no_grad()
def test_vision_transformer_sizes_are_arguments() -> None:
    network = VisionTransformer(width=8, patch=4, depth=2, heads=2, grid=3).eval()

    assert network(torch.zeros(2, 3, 12, 12)).shape == (2, 8, 3, 3)
    assert len(network.blocks) == 2
