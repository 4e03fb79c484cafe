"""torchvision's classifiers as encoders: where they are cut, what they announce, what is
refused."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.encoders.torchvision import build_torchvision_encoder
from models.errors import ConfigError
from models.torchvision_compat import import_torchvision

CUTS = [
    ("resnet18", 224, 256, 16),
    ("resnet50", 224, 1024, 16),
    ("resnet50", 448, 2048, 32),
    ("vgg19", 224, 512, 16),
    ("efficientnet_b0", 224, 112, 16),
    ("mobilenet_v3_large", 224, 112, 16),
    ("densenet121", 224, 1024, 16),
    ("convnext_tiny", 224, 384, 16),
    ("regnet_y_400mf", 224, 208, 16),
    ("inception_v3", 251, 768, 16),
]


@pytest.mark.parametrize(("architecture", "size_pixels", "feature_dim", "stride"), CUTS)
@torch.inference_mode()
def test_build_torchvision_encoder_real_architecture_gives_the_map_that_it_announces(
    architecture: str, size_pixels: int, feature_dim: int, stride: int
) -> None:
    encoder = build_torchvision_encoder(
        f"torchvision/{architecture}", size_pixels, pretrained=False
    )

    features = encoder.body.eval()(torch.zeros(1, 3, size_pixels, size_pixels))

    assert features.shape == (1, feature_dim, 14, 14)
    assert (encoder.feature_dim, encoder.stride) == (feature_dim, stride)


def test_build_torchvision_encoder_vgg19_ends_after_conv5_before_the_last_pooling() -> None:
    body = build_torchvision_encoder("torchvision/vgg19", 224, pretrained=False).body

    convolutions = [module for module in body.modules() if isinstance(module, torch.nn.Conv2d)]
    poolings = [module for module in body.modules() if isinstance(module, torch.nn.MaxPool2d)]

    assert (len(convolutions), len(poolings)) == (16, 4)
    assert not any(isinstance(module, torch.nn.Linear) for module in body.modules())


@torch.inference_mode()
def test_build_torchvision_encoder_resnet50_equals_torchvision_run_to_layer3() -> None:
    torch.manual_seed(0)
    network = import_torchvision().models.resnet50(weights=None).eval()
    encoder = build_torchvision_encoder("torchvision/resnet50", 224, pretrained=False)
    encoder.body.load_state_dict(
        {
            name: network.state_dict()[name.removeprefix("network.")]
            for name in encoder.body.state_dict()
        }
    )
    images = torch.rand(2, 3, 224, 224)

    expected = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    expected = network.layer3(network.layer2(network.layer1(expected)))

    torch.testing.assert_close(encoder.body.eval()(images), expected)


def test_build_torchvision_encoder_normalization_is_torchvisions_on_the_byte_scale() -> None:
    normalization = build_torchvision_encoder(
        "torchvision/resnet18", 224, pretrained=False
    ).normalization

    assert normalization.mean == pytest.approx((123.675, 116.28, 103.53))
    assert normalization.std == pytest.approx((58.395, 57.12, 57.375))


def test_build_torchvision_encoder_body_in_training_passes_gradients_to_every_parameter() -> None:
    body = build_torchvision_encoder("torchvision/resnet18", 224, pretrained=False).body.train()

    body(torch.rand(2, 3, 224, 224)).sum().backward()

    assert all(parameter.grad is not None for parameter in body.parameters())


def test_build_torchvision_encoder_body_copied_keeps_its_tensors_and_their_names() -> None:
    body = build_torchvision_encoder("torchvision/shufflenet_v2_x0_5", 224, pretrained=False).body

    again = copy.deepcopy(body)

    assert again.state_dict().keys() == body.state_dict().keys()
    assert all(
        torch.equal(again.state_dict()[name], tensor) for name, tensor in body.state_dict().items()
    )


@pytest.mark.parametrize(
    ("name", "size_pixels", "says"),
    [
        ("torchvision/resnet5", 224, "torchvision/resnet50"),
        ("torchvision/", 224, "no classifier named ''"),
        ("torchvision/fasterrcnn_resnet50_fpn", 224, "no classifier named"),
        ("torchvision/vit_b_16", 224, "no convolutional network"),
        ("torchvision/swin_t", 448, "no convolutional network"),
        ("torchvision/maxvit_t", 224, "no convolutional network"),
        ("torchvision/alexnet", 224, "no 14x14 map at 224 px"),
        ("torchvision/resnet18", 300, r"only 150x150, 75x75, 38x38, 19x19, 10x10\); .* 224"),
        ("torchvision/resnet18", 16, "no 14x14 map at 16 px"),
    ],
)
def test_build_torchvision_encoder_name_or_size_that_cannot_be_is_refused_with_what_would_be_right(
    name: str, size_pixels: int, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        build_torchvision_encoder(name, size_pixels, pretrained=False)


def test_build_torchvision_encoder_pretrained_without_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there

    with pytest.raises(ConfigError, match=r"connect this machine to the network, or put .* into"):
        build_torchvision_encoder("torchvision/shufflenet_v2_x0_5", 224, pretrained=True)


def test_build_torchvision_encoder_pretrained_takes_the_weights_of_torchvisions_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = import_torchvision().models
    published = models.shufflenet_v2_x0_5(weights=None).state_dict()
    file_name = models.ShuffleNet_V2_X0_5_Weights.DEFAULT.url.rpartition("/")[2]
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(published, cache / file_name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    body = build_torchvision_encoder("torchvision/shufflenet_v2_x0_5", 224, pretrained=True).body

    assert all(
        torch.equal(published[name.removeprefix("network.")], w)
        for name, w in body.state_dict().items()
    )


def test_import_torchvision_called_again_gives_the_same_module_with_transforms() -> None:
    torchvision = import_torchvision()
    import_torchvision.cache_clear()

    assert import_torchvision() is torchvision is sys.modules["torchvision"]
    flip = torchvision.transforms.RandomHorizontalFlip(p=1.0)
    assert flip(torch.arange(3).view(1, 1, 3)).tolist() == [[[2, 1, 0]]]


def test_import_torchvision_operators_already_there_are_not_declared_again(
    tmp_path: Path, repository: Path
) -> None:
    """torch refuses a second declaration, so a whole torchvision must be left alone."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("WHOLE = True\n")
    script = (
        "import torch\n"
        "library = torch.library.Library('torchvision', 'DEF')\n"
        "library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "from models.torchvision_compat import import_torchvision\n"
        "assert import_torchvision().WHOLE\n"
        "assert not hasattr(torch.ops.torchvision, 'qnms')\n"
    )
    path = os.pathsep.join([str(tmp_path), str(repository)])
    subprocess.run(
        [sys.executable, "-c", script], check=True, env=os.environ | {"PYTHONPATH": path}
    )


def test_import_torchvision_declares_without_a_body_so_that_detection_fails_loudly() -> None:
    torchvision = import_torchvision()
    if torchvision.extension._has_ops():
        kept = torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([1.0]), 0.5)
        assert kept.tolist() == [0]
    else:
        with pytest.raises((NotImplementedError, RuntimeError)):
            torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([1.0]), 0.5)


def test_service_and_library_imported_do_not_import_torchvision(repository: Path) -> None:
    """It takes seconds, and the default model does not need it."""
    script = (
        "import sys, app.main, models.captioner, models.encoders.torchvision; assert "
        "'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=repository)
