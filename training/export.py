"""What a run learnt, as a bundle that the service loads.

Knows no data but its words, and trains nothing.
"""

from pathlib import Path

from torch import Tensor

from models.bundles.checkpoint import save_checkpoint
from models.bundles.tensors import save_shared
from models.config import ModelConfig
from models.encoders.fused import SECOND_PREFIX
from models.errors import ConfigError
from models.network import CaptioningModel, build_model
from models.tokenizer import Vocabulary
from training.config import Part, TrainConfig, is_of_part
from training.initialization import load_source, model_config, read_data
from training.run_state import check_same_run, load_state

__all__ = ["export_run", "save_bundle"]


def export_run(config: TrainConfig, runs_folder: Path, weights_folder: Path) -> Path:
    """Write the best weights of a run as a bundle in half precision, without metrics yet.

    Gives the bundle's folder.

    Raises ConfigError where there is no finished epoch, or where the experiment has changed.
    """
    source = load_source(config, weights_folder)
    data = read_data(config, source, lambda _: None)
    run = runs_folder / config.name
    found = load_state(run / "state")
    if found is None or "best" not in found[0]:
        raise ConfigError(f"There is no finished epoch in {run}: train first.")
    described = model_config(config, len(data.vocabulary), source)
    check_same_run(run, described, data.vocabulary)
    model = build_model(described)
    model.load_state_dict(found[0]["best"])
    return save_bundle(config, model, described, data.vocabulary, weights_folder)


def save_bundle(
    config: TrainConfig,
    model: CaptioningModel,
    described: ModelConfig,
    vocabulary: Vocabulary,
    weights_folder: Path,
) -> Path:
    """Write a bundle, and the files that it shares with others; give its folder."""
    for part, name in config.shared.items():
        save_shared(weights_folder, name, _shared_part(model, part))
    folder = weights_folder / config.name
    shared = tuple(config.shared.values())
    save_checkpoint(folder, model, described, vocabulary, {}, shared)
    return folder


def _shared_part(model: CaptioningModel, part: Part) -> dict[str, Tensor]:
    """Give the tensors of a part; a second network in the encoder is the model's own."""
    second = f"encoder.body.{SECOND_PREFIX}"
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if is_of_part(name, part) and not name.startswith(second)
    }
