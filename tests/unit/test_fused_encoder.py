"""Two encoders over one grid: what each sees, where its features lie, and the names of its
tensors."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from models.architectures.grids import Normalization
from models.encoders.fused import SECOND_PREFIX, FusedEncoder
from models.errors import ConfigError

FIRST = Normalization((127.5,) * 3, (127.5,) * 3)
SECOND = Normalization((100.0, 110.0, 120.0), (50.0, 60.0, 70.0))


class _Mean(nn.Module):
    """A network of one weight: the mean of each cell of `side` pixels, `rim` pixels left out, times
    the weight."""

    def __init__(self, side: int, weight: float, rim: int = 0) -> None:
        super().__init__()
        self.side = side
        self.rim = rim
        self.scale = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.scale.weight, weight)

    def forward(self, images: Tensor) -> Tensor:
        inner = images[..., self.rim : images.shape[2] - self.rim, self.rim :]
        means: Tensor = avg_pool2d(inner, self.side) * self.scale.weight.view(1)
        return means


def _weights(fused: FusedEncoder) -> list[float]:
    """The weight of the first, then that of the second."""
    return [parameter.item() for parameter in fused.parameters()]


def _fused(first: float, second: float) -> FusedEncoder:
    """Cells of 2 pixels from the second pixel on, and over them cells of 4."""
    return FusedEncoder(
        _Mean(2, first, rim=1),
        _Mean(4, second),
        size_pixels=10,
        crop=slice(1, 9),
        normalizations=(FIRST, SECOND),
        scale=0.5,
    )


@pytest.fixture
def fused() -> FusedEncoder:
    return _fused(3.0, 5.0)


@torch.no_grad()
def test_fused_encoder_second_sees_its_crop_in_its_own_normalization(fused: FusedEncoder) -> None:
    pixels = torch.randint(256, (2, 3, 10, 10), generator=torch.Generator().manual_seed(0)).float()
    images = (pixels - 127.5) / 127.5
    mean = torch.tensor(SECOND.mean).view(3, 1, 1)
    std = torch.tensor(SECOND.std).view(3, 1, 1)

    maps = fused(images)

    assert maps.shape == (2, 6, 4, 4)
    torch.testing.assert_close(maps[:, :3], 3 * avg_pool2d(images[..., 1:9, 1:9], 2))
    coarse = 0.5 * 5 * avg_pool2d((pixels[..., 1:9, 1:9] - mean) / std, 4)
    for row in range(4):
        for column in range(4):
            cell = coarse[:, :, row // 2, column // 2]
            torch.testing.assert_close(maps[:, 3:, row, column], cell, atol=1e-4, rtol=1e-4)


def test_fused_encoder_image_of_another_size_is_refused(fused: FusedEncoder) -> None:
    with pytest.raises(ConfigError, match=r"pictures of 10 pixels, not of \(12, 12\)"):
        fused(torch.zeros(1, 3, 12, 12))


def test_fused_encoder_tensors_of_the_first_have_the_names_of_the_first_alone(
    fused: FusedEncoder,
) -> None:
    wrapped = nn.ModuleDict({"body": fused, "other": nn.Linear(1, 1)})

    assert set(fused.state_dict()) == {"scale.weight", f"{SECOND_PREFIX}scale.weight"}
    assert set(wrapped.state_dict()) == {
        "body.scale.weight",
        f"body.{SECOND_PREFIX}scale.weight",
        "other.weight",
        "other.bias",
    }
    assert wrapped.state_dict()["body.scale.weight"].item() == 3.0


@pytest.mark.parametrize("assign", [False, True])
def test_fused_encoder_state_comes_back_as_it_was_saved(fused: FusedEncoder, assign: bool) -> None:
    saved = nn.ModuleDict({"body": fused}).state_dict()
    other = _fused(0.0, 0.0)

    nn.ModuleDict({"body": other}).load_state_dict(saved, assign=assign)

    assert _weights(other) == [3.0, 5.0]


def test_fused_encoder_tensor_that_is_missing_or_of_nobody_is_refused(fused: FusedEncoder) -> None:
    state = fused.state_dict()
    del state[f"{SECOND_PREFIX}scale.weight"]

    with pytest.raises(RuntimeError, match="Missing"):
        fused.load_state_dict(state)
    with pytest.raises(RuntimeError, match="Unexpected"):
        fused.load_state_dict(fused.state_dict() | {"strange.weight": torch.zeros(1)})


def test_fused_encoder_copy_loads_for_itself(fused: FusedEncoder) -> None:
    copied = copy.deepcopy(fused)

    copied.load_state_dict(_fused(7.0, 8.0).state_dict())

    assert _weights(copied) == [7.0, 8.0]
    assert _weights(fused) == [3.0, 5.0]
