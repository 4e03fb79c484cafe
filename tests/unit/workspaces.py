"""Folders that the commands of the results work in: an experiment, its drawn images, bundles of
tiny models."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from models.config import DecodingOptions
from tests.unit.toys import save_tiny_bundle
from training.data.synthetic_shapes import write

NAMES = ("nic", "soft-attention", "hard-attention")
_EXPERIMENT = """
name = "{name}"
[[train]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "train"
{train}
[[dev]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "dev"
[[test]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "{test}"
[[stages]]
kind = "frozen"
epochs = 1
"""
TABLE_EXPERIMENT = _EXPERIMENT.format(name="nic", train="", test="train")
MAPS_EXPERIMENT = _EXPERIMENT.format(name="drawn", train='entities = "entities.jsonl"', test="test")
MODELS: dict[str, dict[str, Any]] = {
    "nic": {"decoder": "nic"},
    "soft-attention": {},
    "hard-attention": {"attention": "hard"},
    "transformer": {"decoder": "transformer", "layers": 1, "heads": 2},
}
WITH_MAPS = ["soft-attention", "hard-attention", "transformer"]
WORDS = ("a", "red", "dog", "sits", "on", "grass")


def table_place(folder: Path) -> Path:
    """An experiment, its drawn images in data/, three bundles in weights/; the first two caption
    alike."""
    (folder / "nic.toml").write_text(TABLE_EXPERIMENT, encoding="utf-8")
    write(folder / "data" / "shapes", train_count=42, dev_count=5, seed=0, size_pixels=64)
    for name in NAMES:
        longest = 3 if name == "hard-attention" else 8
        save_tiny_bundle(
            folder / "weights" / name, decoding=DecodingOptions(beam_size=2, max_length=longest)
        )
    return folder


def maps_place(folder: Path) -> Path:
    """An experiment, its drawn images with phrases and objects in data/, a bundle of each model in
    weights/."""
    (folder / "drawn.toml").write_text(MAPS_EXPERIMENT, encoding="utf-8")
    shapes = folder / "data" / "shapes"
    write(shapes, train_count=2, dev_count=6, seed=0, size_pixels=64)
    shutil.copy(shapes / "dev.jsonl", shapes / "test.jsonl")
    files = [
        json.loads(line)["file"]
        for line in (shapes / "test.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    phrases = [{"start": 0, "end": 3, "entity": "1"}, {"start": 4, "end": 6, "entity": "2"}]
    boxes = {"1": [[0.1, 0.2, 0.6, 0.7]], "2": [[0.0, 0.5, 1.0, 1.0]]}
    lines = [
        {"file": file, "captions": [{"words": WORDS, "phrases": phrases}], "boxes": boxes}
        for file in files
    ]
    (shapes / "entities.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    _write_boxed(folder / "data" / "boxes")
    for name, fields in MODELS.items():
        decoding = DecodingOptions(beam_size=1, max_length=9, length_penalty=2.0)
        save_tiny_bundle(folder / "weights" / name, decoding=decoding, **fields)
    return folder


def _write_boxed(folder: Path) -> None:
    """Draw a dozen noisy images, so that captions differ, each with a box of a dog and of a cat."""
    (folder / "images").mkdir(parents=True)
    for number in range(12):
        noise = torch.randint(256, (64, 64, 3), generator=torch.Generator().manual_seed(number))
        Image.fromarray(noise.to(torch.uint8).numpy()).save(folder / "images" / f"{number}.png")
    instances = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(12)
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"image_id": n, "category_id": category, "bbox": [8, 8, 40, 30]}
            for n in range(12)
            for category in (1, 2)
        ],
    }
    (folder / "instances.json").write_text(json.dumps(instances), encoding="utf-8")


def contents(place: Path) -> dict[str, bytes]:
    """Every file below the folder, by its path there."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }
