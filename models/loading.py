"""From a bundle on disk to a captioner. The one place that joins bundles with a runtime."""

from pathlib import Path

from models.bundles.checkpoint import Checkpoint, CheckpointDescription
from models.bundles.registry import describe_model, load_model
from models.bundles.shared_tensors import SharedTensors
from models.caption import ModelInfo
from models.captioner import NetworkCaptioner
from models.runtime.torch import Precision, TorchRuntime

__all__ = ["build_captioner", "describe_captioner", "load_captioner"]


def load_captioner(
    folder: Path, name: str, *, precision: Precision = "auto", store: SharedTensors | None = None
) -> NetworkCaptioner:
    """Load model `name` from the weights folder, verified.

    store: in common with other captioners, whose shared files are then in memory once.
    Raises UnknownModelError or CheckpointError.
    """
    return build_captioner(load_model(folder, name, store or SharedTensors()), precision=precision)


def build_captioner(checkpoint: Checkpoint, *, precision: Precision = "auto") -> NetworkCaptioner:
    """Make a loaded bundle caption, in PyTorch."""
    runtime = TorchRuntime(checkpoint.model, checkpoint.config.preprocess, precision=precision)
    info = _describe(checkpoint)
    return NetworkCaptioner(runtime, checkpoint.vocabulary, info, kept=checkpoint.shared)


def describe_captioner(folder: Path, name: str) -> ModelInfo:
    """Describe what `load_captioner` would give, without reading the weights.

    Raises UnknownModelError or CheckpointError.
    """
    return _describe(describe_model(folder, name))


def _describe(known: Checkpoint | CheckpointDescription) -> ModelInfo:
    return ModelInfo(
        name=known.config.name,
        digest=known.digest,
        config=known.config,
        parameters=known.parameters,
        metrics=known.metrics,
        memory=known.memory,
        decoder_parameters=known.decoder_parameters,
    )
