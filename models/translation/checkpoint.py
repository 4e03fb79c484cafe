"""Translators as torch modules: loaded from a bundle, and written to one. Knows no strings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from models.bundles.reading import join_tensors
from models.bundles.shared_tensors import REMEDY
from models.bundles.tensors import halve
from models.errors import CheckpointError, ConfigError
from models.translation.bundles import (
    TranslationBundle,
    read_translation_bundle,
    write_translation_bundle,
)
from models.translation.config import TranslationConfig
from models.translation.network import TranslationModel, build_translation_model, tied_names
from models.translation.subwords import Subwords

__all__ = ["load_translation", "own_tensors", "save_translation", "with_second_names"]


def own_tensors(config: TranslationConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the tensors that are others under a second name."""
    second = tied_names(config)
    return {name: tensor for name, tensor in tensors.items() if name not in second}


def with_second_names(
    config: TranslationConfig, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Put back what `own_tensors` left out."""
    second = {
        name: tensors[first] for name, first in tied_names(config).items() if first in tensors
    }
    return {**tensors, **second}


def save_translation(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: TranslationConfig,
    source: Subwords,
    target: Subwords,
    metrics: Mapping[str, Any],
) -> None:
    """Write a bundle, in half precision. tensors: the state of the network, by name.

    Raises CheckpointError where the subwords are not the translator's.
    """
    stored = halve(own_tensors(config, tensors))
    weights = save(stored, metadata={"format": "pt"})
    write_translation_bundle(folder, weights, config, source, target, metrics)


def load_translation(folder: Path) -> tuple[TranslationModel, TranslationBundle]:
    """Read and verify a bundle; the network is in float32, in evaluation mode.

    Raises CheckpointError.
    """
    bundle = read_translation_bundle(folder)
    try:
        model = build_translation_model(bundle.config)
    except ConfigError as error:
        raise CheckpointError(f"{folder}: {error} {REMEDY}") from error
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    own = own_tensors(bundle.config, {name: torch.empty(shape) for name, shape in shapes.items()})
    wanted = {name: tensor.shape for name, tensor in own.items()}
    joined = join_tensors(folder, wanted, bundle.tensors, ())
    tensors = {name: torch.from_numpy(array).float() for name, array in joined.items()}
    model.load_state_dict(with_second_names(bundle.config, tensors))
    return model.eval().requires_grad_(False), bundle
