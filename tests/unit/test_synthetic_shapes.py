"""The made-up world is true to itself: captions to boxes, boxes to pixels, and the same for the
same seed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.geometry import Box
from training.data.datasets import DatasetConfig, read_dataset
from training.data.synthetic_shapes import COLORS, SHAPES, SyntheticImage, generate, write

CAPTION = re.compile(
    rf"a (?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)}) "
    r"(?P<relation>above|below|to the left of|to the right of) "
    rf"a (?P<other_color>{'|'.join(COLORS)}) (?P<other_shape>{'|'.join(SHAPES)})"
)


def _relations(first: Box, second: Box) -> set[str]:
    """Say every relation of the first box to the second that holds without doubt."""
    holds = {
        "above": first[3] <= second[1],
        "below": first[1] >= second[3],
        "to the left of": first[2] <= second[0],
        "to the right of": first[0] >= second[2],
    }
    return {relation for relation, true in holds.items() if true}


def _mask(image: SyntheticImage, color: str) -> np.ndarray:
    pixels = np.asarray(image.image).astype(int)
    mask: np.ndarray = (pixels == np.array(COLORS[color])).all(axis=-1)
    return mask


@given(seed=st.integers(0, 2**32 - 1), size_pixels=st.integers(48, 256))
def test_generate_any_seed_captions_are_true_of_boxes(seed: int, size_pixels: int) -> None:
    (image,) = generate(1, seed, size_pixels)
    assert image.image.size == (size_pixels, size_pixels)
    assert len(set(image.captions)) == len(image.captions) == 2
    assert len(image.boxes) == 2
    for caption in image.captions:
        parts = CAPTION.fullmatch(caption)
        assert parts is not None
        assert {parts["shape"], parts["other_shape"]} == set(image.boxes)
        assert _relations(image.boxes[parts["shape"]], image.boxes[parts["other_shape"]]) == {
            parts["relation"]
        }


@given(seed=st.integers(0, 2**32 - 1))
def test_generate_any_seed_boxes_are_tight_around_the_colored_pixels(seed: int) -> None:
    (image,) = generate(1, seed, 96)
    parts = CAPTION.fullmatch(image.captions[0])
    assert parts is not None
    for color, shape in (
        (parts["color"], parts["shape"]),
        (parts["other_color"], parts["other_shape"]),
    ):
        rows, columns = np.nonzero(_mask(image, color))
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(np.array(found) / 96, image.boxes[shape], atol=1.01 / 96)


def test_generate_same_seed_gives_same_images_and_longer_list_starts_alike() -> None:
    short = generate(3, 7, 64)
    long = generate(5, 7, 64)
    for one, other in zip(short, long, strict=False):
        assert one.captions == other.captions
        assert one.boxes == other.boxes
        assert one.image.tobytes() == other.image.tobytes()


def test_generate_other_seed_gives_other_images() -> None:
    assert generate(1, 7, 64)[0].image.tobytes() != generate(1, 8, 64)[0].image.tobytes()


def test_generate_many_use_every_word() -> None:
    words = {
        word
        for image in generate(200, 0, 32)
        for caption in image.captions
        for word in caption.split()
    }
    assert words == {"a", "above", "below", "to", "the", "left", "right", "of", *SHAPES, *COLORS}


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("dev", 2)])
def test_write_then_read_dataset_gives_every_image(tmp_path: Path, split: str, count: int) -> None:
    write(tmp_path, train_count=5, dev_count=2, seed=3, size_pixels=48)
    config = DatasetConfig.model_validate(
        {"name": "shapes", "kind": "jsonl", "root": tmp_path, "split": split, "verify_images": True}
    )
    images, report = read_dataset(config)
    assert len(images) == count
    assert report.problems == []
    boxes = json.loads((tmp_path / "boxes.json").read_text(encoding="utf-8"))
    assert len(boxes) == 7
    for image in images:
        assert set(boxes[image.key]) <= set(" ".join(image.captions).split())
