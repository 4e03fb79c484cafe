"""Encoders: the pretrained ones equal their reference definition, announce what they give, and
refuse the rest."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from models.architectures.grids import GRID_SIZE
from models.encoders import build_encoder, default_preprocess, load_pretrained
from models.encoders.tiny import TinyEncoder
from models.errors import ConfigError
from models.network import normalize
from tests.unit.scripts import load_script

PAIR = "inception_v3+efficientnet_lite0"
CUTS = [
    ("inception_v3", 251, 768, 16),
    ("inception_v3", 266, 768, 16),
    (PAIR, 251, 768 + 320, 16),
    ("efficientnet_lite0", 224, 112, 16),
    ("efficientnet_lite0", 209, 112, 16),
    ("efficientnet_lite0", 417, 320, 32),
    ("efficientnet_lite1", 224, 112, 16),
    ("efficientnet_lite2", 224, 120, 16),
    ("efficientnet_lite2", 448, 352, 32),
    ("mobilenet_v2", 209, 96, 16),
    ("mobilenet_v2", 448, 320, 32),
    ("mobilenet_v2", 417, 320, 32),
    ("tiny", 53, 64, 4),
    ("tiny", 56, 64, 4),
]
PRETRAINED = [
    ("inception_v3", 251, {}),
    ("inception_v3", 259, {}),
    ("efficientnet_lite0", 448, {"layer": "stride32"}),
    ("efficientnet_lite0", 431, {"layer": "stride32"}),
    ("efficientnet_lite0", 224, {"layer": "stride16"}),
    ("mobilenet_v2", 448, {"layer": "stride32"}),
    ("mobilenet_v2", 417, {"layer": "stride32"}),
    ("mobilenet_v2", 224, {"layer": "stride16"}),
]


@pytest.fixture(scope="module")
def reference(shared_encoders: Path) -> ModuleType:
    """The publisher's compact definition of the pretrained encoders."""
    return load_script(shared_encoders / "reference.py")


@pytest.mark.parametrize(("name", "size_pixels", "layer"), PRETRAINED)
@torch.inference_mode()
def test_load_pretrained_real_weights_equal_the_reference_exactly(
    reference: ModuleType, shared_encoders: Path, name: str, size_pixels: int, layer: dict[str, Any]
) -> None:
    pixels = torch.randint(
        0, 256, (2, 3, size_pixels, size_pixels), generator=torch.Generator().manual_seed(0)
    )
    expected_encoder = reference.load_encoder(name, shared_encoders, **layer)
    encoder = load_pretrained(name, size_pixels, shared_encoders).eval()

    annotations = encoder(normalize(pixels.to(torch.uint8), default_preprocess(name, size_pixels)))

    assert torch.equal(annotations, expected_encoder(expected_encoder.normalise(pixels)))
    assert (encoder.feature_dim, encoder.stride) == (
        expected_encoder.feature_dim,
        expected_encoder.stride,
    )
    assert encoder.grid_size == expected_encoder.grid_size == GRID_SIZE


@pytest.mark.parametrize(("name", "size_pixels", "feature_dim", "stride"), CUTS)
@torch.inference_mode()
def test_build_encoder_each_cut_gives_what_it_announces(
    name: str, size_pixels: int, feature_dim: int, stride: int
) -> None:
    encoder = build_encoder(name, size_pixels)

    annotations = encoder(torch.zeros(1, 3, size_pixels, size_pixels))

    assert annotations.shape == (1, 196, feature_dim)
    assert (encoder.feature_dim, encoder.stride, encoder.grid_size) == (
        feature_dim,
        stride,
        (14, 14),
    )


@torch.inference_mode()
def test_load_pretrained_pair_gives_both_references_over_the_same_cells(
    reference: ModuleType, shared_encoders: Path
) -> None:
    pixels = torch.randint(0, 256, (2, 3, 251, 251), generator=torch.Generator().manual_seed(0))
    fine = reference.load_encoder("inception_v3", shared_encoders)
    coarse = reference.load_encoder("efficientnet_lite0", shared_encoders, layer="stride32")
    pair = load_pretrained(PAIR, 251, shared_encoders).eval()

    annotations = pair(normalize(pixels.to(torch.uint8), default_preprocess(PAIR, 251)))

    assert torch.equal(annotations[..., :768], fine(fine.normalise(pixels)))
    cells = annotations[..., 768:].unflatten(1, GRID_SIZE)  # (B, 14, 14, 320)
    expected = coarse(coarse.normalise(pixels[..., 13:237, 13:237])).unflatten(1, (7, 7)) / 12
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):  # each of its cells lies on four
        torch.testing.assert_close(cells[:, row::2, column::2], expected, rtol=0, atol=1e-4)


def test_load_pretrained_pair_without_its_second_file_names_it(
    shared_encoders: Path, tmp_path: Path
) -> None:
    (tmp_path / "inception_v3.safetensors").symlink_to(shared_encoders / "inception_v3.safetensors")

    with pytest.raises(
        ConfigError, match=r"No pretrained weights at .*efficientnet_lite0\.safetensors"
    ):
        load_pretrained(PAIR, 251, tmp_path)


def test_pair_image_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pictures of 251 pixels, not of \(266, 266\)"):
        build_encoder(PAIR, 251)(torch.zeros(1, 3, 266, 266))


@torch.inference_mode()
def test_build_encoder_annotations_run_row_by_row() -> None:
    encoder = build_encoder("tiny", 56)
    images = torch.rand(1, 3, 56, 56)

    annotations = encoder(images)

    assert torch.equal(annotations[0, 3 * 14 + 5], encoder.body(images)[0, :, 3, 5])


@torch.inference_mode()
def test_build_encoder_training_mode_gives_the_same_as_evaluation_mode() -> None:
    encoder = build_encoder("efficientnet_lite0", 209)
    images = torch.rand(1, 3, 209, 209)

    assert torch.equal(encoder.train()(images), encoder.eval()(images))


@torch.inference_mode()
def test_build_encoder_batch_equals_single() -> None:
    encoder = build_encoder("mobilenet_v2", 209)
    images = torch.rand(2, 3, 209, 209)

    batch = encoder(images)

    for index in range(2):
        torch.testing.assert_close(encoder(images[index : index + 1])[0], batch[index])


@pytest.mark.parametrize(
    ("name", "size_pixels", "right"),
    [
        ("inception_v3", 250, "251 to 266"),
        ("inception_v3", 267, "251 to 266"),
        ("inception_v3", 299, "251 to 266"),
        ("efficientnet_lite0", 300, "209 to 224 or 417 to 448"),
        ("mobilenet_v2", 449, "209 to 224 or 417 to 448"),
        ("tiny", 57, "53 to 56"),
    ],
)
def test_build_encoder_wrong_size_is_refused_with_the_right_ones(
    name: str, size_pixels: int, right: str
) -> None:
    with pytest.raises(
        ConfigError, match=f"'{name}' has a 14 x 14 map for {right} pixels, not for {size_pixels}"
    ):
        build_encoder(name, size_pixels)


@torch.inference_mode()
def test_encoder_image_of_another_size_than_it_was_built_for_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"\(300, 300\) pixels give a \(17, 17\) grid, not \(14, 14\)"
    ):
        build_encoder("inception_v3", 251)(torch.zeros(1, 3, 300, 300))


@pytest.mark.parametrize(
    "make",
    [build_encoder, default_preprocess, lambda name, size: load_pretrained(name, size, None)],
)
def test_encoder_unknown_name_is_refused_with_the_known_ones(make: Any) -> None:
    with pytest.raises(
        ConfigError,
        match=r"'vgg'.* efficientnet_lite0, .*lite2, inception_v3, "
        r"inception_v3\+efficientnet_lite0, mobilenet_v2.*torchvision/",
    ):
        make("vgg", 224)


def test_build_encoder_torchvision_name_wraps_the_classifier() -> None:
    encoder = build_encoder("torchvision/resnet18", 224)

    assert (encoder.feature_dim, encoder.stride, encoder.grid_size, encoder.offset_pixels) == (
        256,
        16,
        (14, 14),
        0,
    )
    assert default_preprocess("torchvision/resnet18", 224).mean == pytest.approx(
        (123.675, 116.28, 103.53)
    )


def test_default_preprocess_statistics_are_those_of_pretraining(
    shared_encoders: Path, reference: ModuleType
) -> None:
    for name in ("inception_v3", "efficientnet_lite0", "mobilenet_v2"):
        published = reference.read_metadata(name, shared_encoders)
        preprocess = default_preprocess(name, 224)

        assert list(preprocess.mean) == pytest.approx(published["mean"])
        assert list(preprocess.std) == pytest.approx(published["std"])


def _body_tensors(name: str, size_pixels: int) -> dict[str, torch.Tensor]:
    return {
        key: tensor.half()
        for key, tensor in build_encoder(name, size_pixels).body.state_dict().items()
    }


def test_load_pretrained_half_precision_file_fills_every_tensor(tmp_path: Path) -> None:
    tensors = _body_tensors("tiny", 56)
    save_file({**tensors, "head.weight": torch.zeros(3)}, tmp_path / "tiny.safetensors")

    encoder = load_pretrained("tiny", 56, tmp_path)

    for key, tensor in encoder.body.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, load_file(tmp_path / "tiny.safetensors")[key].float())


@pytest.mark.parametrize("has_folder", [True, False])
def test_load_pretrained_absent_file_is_refused_by_its_name(
    tmp_path: Path, has_folder: bool
) -> None:
    with pytest.raises(ConfigError, match=r"No pretrained weights.*tiny\.safetensors"):
        load_pretrained("tiny", 56, tmp_path if has_folder else None)


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"]
)
def test_load_pretrained_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(content)

    with pytest.raises(ConfigError, match=r"tiny\.safetensors.* no safetensors file"):
        load_pretrained("tiny", 56, tmp_path)


@pytest.mark.parametrize("damage", ["missing", "misshapen"])
def test_load_pretrained_file_of_another_network_is_refused(tmp_path: Path, damage: str) -> None:
    tensors = _body_tensors("tiny", 56)
    name = sorted(tensors)[0]
    if damage == "missing":
        del tensors[name]
    else:
        tensors[name] = tensors[name][..., None]
    save_file(tensors, tmp_path / "tiny.safetensors")

    with pytest.raises(ConfigError, match=rf"tiny\.safetensors.*{name}"):
        load_pretrained("tiny", 56, tmp_path)


@pytest.mark.parametrize("size_pixels", [251, 266])
def test_inception_cell_lies_where_the_grid_says(
    size_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a plain blur (kernels that keep the size pass their middle on, all others average), the
    network shows by a cell's gradient where the cell lies; the borders are too far away to be seen.
    """
    monkeypatch.setattr(functional, "max_pool2d", functional.avg_pool2d)
    encoder = build_encoder("inception_v3", size_pixels)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            keeps_size = module.padding != (0, 0)
            nn.init.constant_(module.weight, 0.0 if keeps_size else 1.0)
            height, width = module.kernel_size
            module.weight.data[:, :, height // 2, width // 2] = 1.0
            module.weight.data /= module.weight[0].sum()
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    images = torch.ones(1, 3, size_pixels, size_pixels, requires_grad=True)

    (gradient,) = torch.autograd.grad(encoder(images)[0, 6 * 14 + 7].sum(), images)

    place = torch.arange(size_pixels) + 0.5  # the center of each pixel
    weight = gradient[0].sum(dim=0) / gradient.sum()
    assert float(weight.sum(dim=1) @ place) == pytest.approx(
        encoder.offset_pixels + 6.5 * encoder.stride, abs=0.01
    )
    assert float(weight.sum(dim=0) @ place) == pytest.approx(
        encoder.offset_pixels + 7.5 * encoder.stride, abs=0.01
    )


@torch.no_grad()
def test_tiny_encoder_width_is_an_argument() -> None:
    assert TinyEncoder(width=16)(torch.zeros(2, 3, 20, 20)).shape == (2, 16, 5, 5)
