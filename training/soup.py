"""The mean of several bundles' weights (Wortsman et al. 2022, "Model soups"). Trains nothing."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.bundles.checkpoint import Checkpoint, load_checkpoint
from models.config import ModelConfig
from models.errors import ConfigError
from models.network import CaptioningModel, sees_more
from training.config import TrainConfig
from training.export import save_bundle
from training.initialization import initialize_from

__all__ = ["average_bundles"]

_FREE = ("name", "decoding", "dropout")  # bundles may differ in these


def average_bundles(config: TrainConfig, names: Sequence[str], weights_folder: Path) -> Path:
    """Write the mean of bundles' weights as the experiment's bundle; give its folder.

    names: at least one; a name that comes twice counts twice. After one with two encoders,
        bundles may follow that have its first alone.
    Raises ConfigError where they differ in architecture or words.
    """
    checkpoints = [load_checkpoint(weights_folder / name) for name in names]
    first = checkpoints[0]
    states = [_widened(each, first).state_dict() for each in checkpoints]
    mean = {name: sum(state[name] for state in states) / len(states) for name in states[0]}
    first.model.load_state_dict(mean)
    described = first.config.model_copy(
        update={"name": config.name, "decoding": config.decoding, "calibration": None}
    )
    return save_bundle(config, first.model, described, first.vocabulary, weights_folder)


def _widened(checkpoint: Checkpoint, first: Checkpoint) -> CaptioningModel:
    """Give the checkpoint's model, behind the encoder of `first` where that has one more network.

    It ignores the features of that network.

    Raises ConfigError where it fits `first` in neither way.
    """
    is_narrower = sees_more(first.model, checkpoint.model)
    own = {"encoder": first.config.encoder} if is_narrower else {}
    described = _architecture(checkpoint.config) | own
    has_other_words = checkpoint.vocabulary.words != first.vocabulary.words
    if described != _architecture(first.config) or has_other_words:
        raise ConfigError(
            f"{checkpoint.config.name} and {first.config.name} differ in architecture or words."
        )
    if not is_narrower:
        return checkpoint.model
    wide = copy.deepcopy(first.model)
    initialize_from(wide, checkpoint.model)
    return wide


def _architecture(config: ModelConfig) -> dict[str, Any]:
    """Describe what bundles must have in common for a mean of their weights."""
    return {name: value for name, value in config.describe().items() if name not in _FREE}
