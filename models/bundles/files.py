"""The files of a bundle and their sums: written, read and verified. Knows no model.

SHA256SUMS has the sum of each file of the bundle by its name, and of each shared file as
`../shared/<name>.safetensors`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.bundles.shared_tensors import REMEDY, SHARED_FOLDER, read_file, shared_path
from models.errors import CheckpointError

__all__ = [
    "CONFIG",
    "FILES",
    "LANGUAGES_FOLDER",
    "MATCHING_FOLDER",
    "METRICS",
    "SUMS",
    "VOCABULARY",
    "WEIGHTS",
    "parse_json",
    "parse_sums",
    "read_verified",
    "shared_names",
    "sum_of",
    "sums_path",
    "weights_digest",
    "write_json",
    "write_sums",
]

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
VOCABULARY = "vocab.json"
METRICS = "metrics.json"
FILES = (WEIGHTS, CONFIG, VOCABULARY, METRICS)
SUMS = "SHA256SUMS"
MATCHING_FOLDER = "matching"
"""Holds bundles of another kind, which caption nothing; see `models.matching.bundle`."""
LANGUAGES_FOLDER = "languages"
"""Where the bundles of translators lie, below the weights folder; so no captioner is called so."""

_SHARED = re.compile(rf"\.\./{SHARED_FOLDER}/([^/]+)\.safetensors")


def sum_of(content: bytes) -> str:
    """Hash a file's content: SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def write_sums(folder: Path, shared: Mapping[str, str], files: Sequence[str] = FILES) -> None:
    """Write SHA256SUMS for the `files` in `folder` as they are now, and for the shared files.

    shared: the sums of shared files, by name.
    """
    sums = {name: sum_of((folder / name).read_bytes()) for name in files}
    sums |= dict(sorted(shared.items()))
    lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def parse_sums(folder: Path, content: bytes, files: Sequence[str] = FILES) -> dict[str, str]:
    """Read the sums of the bundle's `files` and of its shared files, by name as in SHA256SUMS.

    Other lines are ignored. Raises CheckpointError where a path leads anywhere but to the shared
    files.
    """
    lines = [line.split() for line in content.decode(errors="replace").splitlines()]
    sums = {line[1]: line[0] for line in lines if len(line) == 2}
    for name in sums:
        if "/" in name and not _SHARED.fullmatch(name):
            raise CheckpointError(
                f"{folder / SUMS} names {name!r}, which is no file of {SHARED_FOLDER}/. {REMEDY}"
            )
    return {name: digest for name, digest in sums.items() if name in files or "/" in name}


def read_verified(
    folder: Path, names: Sequence[str], files: Sequence[str] = FILES
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read files once and compare each with its sum, so that what is verified is what is used.

    files: all that a bundle of this kind has. Gives the contents of `names`, and all sums of the
    bundle. Raises CheckpointError.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no model folder {folder}. {REMEDY}")
    missing = [name for name in (*files, SUMS) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}. {REMEDY}")
    contents = {name: read_file(folder / name) for name in names}
    sums = parse_sums(folder, read_file(folder / SUMS), files)
    for name in files:
        is_known = name in sums
        is_same = name not in contents or sums.get(name) == sum_of(contents[name])
        if not (is_known and is_same):
            raise CheckpointError(
                f"{folder / name} does not match {SUMS}: damaged or changed. {REMEDY}"
            )
    return contents, sums


def shared_names(sums: Mapping[str, str]) -> list[str]:
    """List the shared files in SHA256SUMS, in its order."""
    return [name for name in sums if "/" in name]


def sums_path(folder: Path, name: str) -> Path:
    """Find the shared file that SHA256SUMS calls `name`, for the bundle in `folder`."""
    found = _SHARED.fullmatch(name)
    assert found is not None
    return shared_path(folder, found[1])


def weights_digest(sums: Mapping[str, str]) -> str:
    """Identify the weights of a bundle, as `models.bundles.checkpoint.Checkpoint` says."""
    shared = sorted(shared_names(sums))
    if not shared:
        return sums[WEIGHTS]
    lines = [f"{sums[name]}  {name}\n" for name in (WEIGHTS, *shared)]
    return sum_of("".join(lines).encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def parse_json(path: Path, content: bytes) -> dict[str, Any]:
    """Parse the content of `path`; raise CheckpointError where it is no JSON object."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:  # the second where lists are nested too deeply
        raise CheckpointError(f"{path} is no JSON. {REMEDY}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is no JSON object. {REMEDY}")
    return value
