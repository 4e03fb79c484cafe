"""EfficientNet-Lite: its sizes by the rule, and its classifier's answers on photos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from models.encoders import load_pretrained
from models.encoders.efficientnet_lite import (
    EFFICIENTNET_LITE2,
    LITE0,
    LITE1,
    LITE2,
    EfficientNetLiteClassifier,
    LiteScale,
)
from models.torchvision_compat import import_torchvision

BODY = ("stem", "blocks")


@pytest.mark.parametrize(
    ("scale", "blocks", "widths"),
    [
        (LITE0, 16, [16, 24, 40, 80, 112, 192, 320]),
        (LITE1, 21, [16, 24, 40, 80, 112, 192, 320]),
        (LITE2, 21, [16, 24, 48, 88, 120, 208, 352]),
    ],
)
def test_lite_scale_gives_the_published_widths_and_depths(
    scale: LiteScale, blocks: int, widths: list[int]
) -> None:
    assert sum(stage[-1] for stage in scale.stages) == blocks
    assert [stage[1] for stage in scale.stages] == widths


def test_load_pretrained_lite2_has_the_file_s_own_numbers(shared_encoders: Path) -> None:
    stored = load_file(shared_encoders / "efficientnet_lite2.safetensors")

    tensors = load_pretrained("efficientnet_lite2", 448, shared_encoders).body.state_dict()

    assert tensors.keys() == {key for key in stored if key.startswith(BODY)}
    assert all(torch.equal(tensors[key], stored[key].float()) for key in tensors)


@torch.inference_mode()
def test_classifier_lite2_names_what_photos_show(shared_encoders: Path, repository: Path) -> None:
    classifier = EfficientNetLiteClassifier(LITE2).eval()
    stored = load_file(shared_encoders / "efficientnet_lite2.safetensors")
    classifier.load_state_dict(
        {f"body.{key}" if key.startswith(BODY) else key: stored[key].float() for key in stored}
    )
    names = import_torchvision().models.MobileNet_V2_Weights.DEFAULT.meta["categories"]
    mean, std = EFFICIENTNET_LITE2.normalization
    side = LITE2.classify_pixels
    for photo, expected in (("coffee", "espresso"), ("cat", "Egyptian cat")):
        image = Image.open(repository / "docs" / "images" / f"{photo}.jpg").convert("RGB")
        pixels = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
        images = (torch.from_numpy(pixels.transpose(2, 0, 1))[None] - mean[0]) / std[0]

        logits, maps = classifier(images)

        assert names[int(logits.argmax())] == expected
        assert float(logits.softmax(1).max()) > 0.7
        # What the classifier says of the whole image is the mean of what it says of the cells.
        cells = classifier.classifier(maps.flatten(2).transpose(1, 2))
        torch.testing.assert_close(cells.mean(dim=1), logits, atol=1e-4, rtol=1e-4)
