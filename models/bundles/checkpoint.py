"""Bundles as torch modules: loaded from disk, and written to it.

Knows no images. `models.bundles.reading` says what a bundle is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from models.bundles.files import (
    CONFIG,
    FILES,
    LANGUAGES_FOLDER,
    MATCHING_FOLDER,
    METRICS,
    VOCABULARY,
    WEIGHTS,
    read_verified,
    shared_names,
    sum_of,
    weights_digest,
    write_json,
    write_sums,
)
from models.bundles.outline import build_outline
from models.bundles.reading import check_probe, join_tensors, parse_small_files, read_shared
from models.bundles.shared_tensors import (
    REMEDY,
    SHARED_FOLDER,
    SharedFile,
    SharedTensors,
    read_file,
    shared_path,
)
from models.bundles.tensors import channels_last, halve, is_same, parse_tensors
from models.config import ModelConfig
from models.errors import CheckpointError, ConfigError
from models.memory import MemoryUse
from models.network import CaptioningModel
from models.tokenizer import Vocabulary

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded bundle.

    digest: of the weights, in hex: the SHA-256 of model.safetensors; for a bundle with shared
        files, that of the lines of its SHA256SUMS that name weights, which
        `grep safetensors SHA256SUMS | sha256sum` gives.
    shared: the files that it has in common with other models in memory. Their store forgets them
        unless whoever keeps the model keeps these too.
    """

    model: CaptioningModel
    config: ModelConfig
    vocabulary: Vocabulary
    metrics: Mapping[str, Any]
    digest: str
    shared: tuple[SharedFile, ...] = ()

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return _count(self.model)

    @property
    def decoder_parameters(self) -> int:
        """How many numbers its decoder has."""
        return _count(self.model.decoder)

    @property
    def memory(self) -> MemoryUse:
        """What its tensors take in memory."""
        common: set[str] = set()
        for file in self.shared:
            common.update(file.tensors)
        shared_bytes = {
            file.digest: sum(tensor.nbytes for tensor in file.tensors.values())
            for file in self.shared
        }
        return MemoryUse(_own_bytes(self.model, common), shared_bytes)


def save_checkpoint(
    folder: Path,
    model: CaptioningModel,
    config: ModelConfig,
    vocabulary: Vocabulary,
    metrics: Mapping[str, Any],
    shared: Sequence[str] = (),
) -> None:
    """Write a bundle to `folder`, in half precision; its model card stays as it is.

    shared: names of shared files; the model's tensors that lie in them are not written again.
    Raises CheckpointError where the vocabulary is not the model's, and where a shared file is
    missing, has no tensor of the model, or has one that differs from the model's in half precision.
    """
    if len(vocabulary) != config.vocab_size:
        raise CheckpointError(
            f"The vocabulary has {len(vocabulary)} tokens and the model {config.vocab_size}."
        )
    if config.name in (SHARED_FOLDER, LANGUAGES_FOLDER, MATCHING_FOLDER):
        raise CheckpointError(
            f"{config.name!r} is a folder of other files than models: call the model otherwise."
        )
    tensors = halve(model.state_dict())
    sums: dict[str, str] = {}
    for name in sorted(set(shared)):
        path = shared_path(folder, name)
        content = read_file(path)
        tensors = _without(tensors, path, halve(parse_tensors(path, content)))
        sums[f"../{SHARED_FOLDER}/{path.name}"] = sum_of(content)
    folder.mkdir(parents=True, exist_ok=True)
    # one metadata entry: safetensors would write two in any order
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_json(folder / VOCABULARY, {"words": list(vocabulary.words)})
    write_json(folder / METRICS, metrics)
    write_sums(folder, sums)


def load_checkpoint(folder: Path, store: SharedTensors | None = None) -> Checkpoint:
    """Read and verify a bundle; the model is in float32, in evaluation mode.

    Raises CheckpointError.

    store: where the tensors of shared files are taken from, and left for the next model; the model
        is then for captioning only. Without a store, all tensors are the model's own.
    """
    contents, sums = read_verified(folder, FILES)
    config, vocabulary, metrics = parse_small_files(folder, contents)
    files = tuple(_load_shared(folder, name, sums[name], store) for name in shared_names(sums))
    own = parse_tensors(folder / WEIGHTS, contents[WEIGHTS])
    model = _fill(_build(folder, config), folder, own, files)
    kept = files if store else ()
    return Checkpoint(model, config, vocabulary, metrics, weights_digest(sums), kept)


def _without(
    tensors: Mapping[str, Tensor], path: Path, common: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Leave out the tensors that lie in the shared file at `path`.

    Raises CheckpointError where there is none, or one differs in half precision.
    """
    names = tensors.keys() & common.keys()
    if not names:
        raise CheckpointError(
            f"{path} holds no tensor of this model (or another shared file holds them all)."
        )
    for name in sorted(names):
        if not is_same(tensors[name], common[name]):
            raise CheckpointError(
                f"The model's tensor {name} differs from the one in {path}: it cannot be shared."
            )
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def _load_shared(folder: Path, name: str, digest: str, store: SharedTensors | None) -> SharedFile:
    """Take the shared file of that name from the store, or else read and verify it."""

    def read_tensors() -> dict[str, Tensor]:
        return parse_tensors(*read_shared(folder, name, digest))

    if store is None:
        return SharedFile(digest, read_tensors())
    return store.take(digest, lambda: channels_last(read_tensors()))


def _build(folder: Path, config: ModelConfig) -> CaptioningModel:
    try:
        model = build_outline(config)
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error} {REMEDY}") from error
    check_probe(folder, config, model.feature_dim)
    return model


def _fill(
    model: CaptioningModel, folder: Path, own: Mapping[str, Tensor], files: Sequence[SharedFile]
) -> CaptioningModel:
    """Put in the tensors, each from one place. Raises CheckpointError."""
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    tensors = join_tensors(folder, wanted, own, files)
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def _own_bytes(model: CaptioningModel, common: set[str]) -> int:
    """Sum what the tensors take that are not in `common`, in bytes."""
    tensors = model.state_dict()
    return sum(tensor.nbytes for name, tensor in tensors.items() if name not in common)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
