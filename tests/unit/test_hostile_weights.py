"""Bundles made to do harm: refused in a sentence, and nothing of theirs is run, read or believed.

Each is sealed: its SHA256SUMS are right, as those of whoever made it would be.
"""

import hashlib
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from models.bundles.checkpoint import load_checkpoint
from models.bundles.reading import describe_checkpoint
from models.bundles.registry import list_models, load_model
from models.bundles.shared_tensors import read_header
from models.errors import CheckpointError, UnknownModelError
from tests.unit.toys import save_tiny_bundle

SUMMED = ("model.safetensors", "config.json", "vocab.json", "metrics.json")
HUGE = 2**62


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return save_tiny_bundle(tmp_path / "tiny")


def seal(folder: Path) -> None:
    sums = (
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in SUMMED
    )
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


class Trap:
    """Makes a file as soon as it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.sprung),)


def as_pickle(trap: Trap) -> bytes:
    return pickle.dumps(trap)


def as_torch_save_writes_it(trap: Trap) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(trap))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def behind_a_header(trap: Trap) -> bytes:
    """A pickle where a safetensors file has its tensors."""
    data = pickle.dumps(trap)
    tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    return header_of({"x": tensor}, data)


def test_trap_works_where_somebody_unpickles_it(tmp_path: Path) -> None:
    pickle.loads(as_pickle(Trap(tmp_path / "sprung")))  # noqa: S301
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("disguise", [as_pickle, as_torch_save_writes_it, behind_a_header])
def test_pickle_in_place_of_the_weights_is_refused_and_never_run(
    bundle: Path, tmp_path: Path, disguise: Callable[[Trap], bytes]
) -> None:
    sprung = tmp_path / "sprung"
    (bundle / "model.safetensors").write_bytes(disguise(Trap(sprung)))
    seal(bundle)
    with pytest.raises(CheckpointError, match=r"no safetensors file|does not fit"):
        load_checkpoint(bundle)
    assert not sprung.exists()


def test_pickle_in_place_of_every_other_file_is_refused_and_never_run(
    bundle: Path, tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    for name in ("config.json", "vocab.json", "metrics.json"):
        good = (bundle / name).read_bytes()
        (bundle / name).write_bytes(as_pickle(Trap(sprung)))
        seal(bundle)
        for reading in (load_checkpoint, describe_checkpoint):
            with pytest.raises(CheckpointError, match=rf"{name} is no JSON"):
                reading(bundle)
        (bundle / name).write_bytes(good)
    assert not sprung.exists()


def test_code_beside_the_weights_is_never_imported(bundle: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    code = f"import os\nos.mkdir({str(sprung)!r})\n"
    for name in ("modeling.py", "__init__.py", "conftest.py", "sitecustomize.py", "tiny.py"):
        (bundle / name).write_text(code, encoding="utf-8")
    for name in ("pytorch_model.bin", "model.pt", "model.pkl", "model.ckpt"):
        (bundle / name).write_bytes(as_torch_save_writes_it(Trap(sprung)))
    assert load_checkpoint(bundle).config.name == "tiny"
    assert not sprung.exists()


def test_weights_of_another_digest_are_refused_before_they_are_parsed(bundle: Path) -> None:
    path = bundle / "model.safetensors"
    path.write_bytes(b"no safetensors at all")
    with pytest.raises(CheckpointError, match=r"does not match SHA256SUMS: damaged or changed"):
        load_checkpoint(bundle)


def header_that_is_too_long(length: int) -> bytes:
    return struct.pack("<Q", length) + b"{}" + bytes(64)


def header_of(document: Any, data: bytes = b"") -> bytes:
    header = json.dumps(document).encode()
    return struct.pack("<Q", len(header)) + header + data


HEADERS = {
    "length beyond the file": header_that_is_too_long(2**20),
    "length beyond memory": header_that_is_too_long(2**62),
    "length of all ones": header_that_is_too_long(2**64 - 1),
    "a tensor beyond memory": header_of(
        {"x": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, HUGE * 4]}}
    ),
    "a shape that overflows": header_of(
        {"x": {"dtype": "F32", "shape": [HUGE, HUGE, HUGE], "data_offsets": [0, 8]}}, bytes(8)
    ),
    "offsets that go backwards": header_of(
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}, bytes(8)
    ),
    "negative numbers": header_of(
        {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [-4, 0]}}, bytes(8)
    ),
    "tensors that overlap": header_of(
        {
            "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "y": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        },
        bytes(8),
    ),
    "nesting without end": struct.pack("<Q", 200_000) + b"[" * 200_000,
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_header_that_lies_is_refused_at_once(bundle: Path, content: bytes) -> None:
    path = bundle / "model.safetensors"
    path.write_bytes(content)
    seal(bundle)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_checkpoint(bundle)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        read_header(path)  # what describing a bundle reads of shared files


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "metrics.json"])
@pytest.mark.parametrize(
    "content",
    [b"[" * 200_000, b'{"a":' * 200_000, b"1" * 100_000],
    ids=["list", "object", "number"],
)
def test_json_nested_or_long_without_end_is_refused(
    bundle: Path, name: str, content: bytes
) -> None:
    (bundle / name).write_bytes(content)
    seal(bundle)
    for reading in (load_checkpoint, describe_checkpoint):
        with pytest.raises(CheckpointError, match=rf"{name} is no JSON"):
            reading(bundle)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/stdin"])
def test_file_that_is_a_device_is_never_read(bundle: Path, name: str, device: str) -> None:
    (bundle / name).unlink()
    (bundle / name).symlink_to(device)
    with pytest.raises(CheckpointError, match=rf"lacks {name}"):
        load_checkpoint(bundle)


def test_file_that_is_a_pipe_is_never_waited_for(bundle: Path) -> None:
    (bundle / "vocab.json").unlink()
    os.mkfifo(bundle / "vocab.json")
    with pytest.raises(CheckpointError, match=r"lacks vocab\.json"):
        load_checkpoint(bundle)


def test_link_that_leads_outside_tells_nothing_of_what_lies_there(
    bundle: Path, tmp_path: Path
) -> None:
    """A link to a good file is good: its sum says so. Any other is refused, sealed or not."""
    outside = tmp_path / "outside.txt"
    outside.write_text('{"password": "sesame"}', encoding="utf-8")
    (bundle / "config.json").unlink()
    (bundle / "config.json").symlink_to(outside)
    with pytest.raises(CheckpointError, match="does not match") as unsealed:
        load_checkpoint(bundle)
    seal(bundle)
    with pytest.raises(CheckpointError) as sealed:
        load_checkpoint(bundle)
    for caught in (unsealed, sealed):
        assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../tiny"),
        ("name", "/etc"),
        ("encoder", "../../outside"),
        ("encoder", "torchvision/../../outside"),
        ("encoder", "torchvision/hub.load"),
        ("encoder", "/etc/passwd"),
        ("encoder", "__import__('os').mkdir('sprung')"),
        ("decoder", "../../outside"),
    ],
)
def test_configuration_that_leads_elsewhere_is_refused(bundle: Path, key: str, value: str) -> None:
    path = bundle / "config.json"
    document = json.loads(path.read_bytes())
    document[key] = value
    path.write_text(json.dumps(document), encoding="utf-8")
    seal(bundle)
    for reading in (load_checkpoint, describe_checkpoint):
        with pytest.raises(CheckpointError):
            reading(bundle)


@pytest.mark.parametrize("name", ["../tiny", "/etc", "..", ".", "tiny/", "tiny/../tiny", "tiny\0"])
def test_name_of_a_model_never_leads_out_of_the_folder(bundle: Path, name: str) -> None:
    assert list_models(bundle.parent) == ["tiny"]
    with pytest.raises(UnknownModelError):
        load_model(bundle.parent, name)
