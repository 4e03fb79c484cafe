"""From a bundle on disk to a captioner. The one place that joins bundles with a runtime."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from models.bundles.checkpoint import Checkpoint, CheckpointDescription
from models.bundles.registry import describe_model, load_model
from models.bundles.shared_tensors import SharedTensors
from models.caption import ModelInfo
from models.captioner import NetworkCaptioner
from models.errors import CheckpointError
from models.runtime import Runtime
from models.runtime.torch import Precision, TorchRuntime

__all__ = [
    "Precision",
    "RuntimeName",
    "build_captioner",
    "describe_captioner",
    "load_captioner",
    "load_served",
]

RuntimeName = Literal["auto", "torch", "openvino"]


def load_captioner(
    folder: Path,
    name: str,
    *,
    precision: Precision = "auto",
    runtime: RuntimeName = "torch",
    threads: int = 1,
    store: SharedTensors | None = None,
) -> NetworkCaptioner:
    """Load model `name` from the weights folder, verified.

    runtime, threads: as in `build_captioner`.
    store: in common with other captioners, whose shared files are then in memory once.
    Raises UnknownModelError or CheckpointError.
    """
    checkpoint = load_model(folder, name, store or SharedTensors())
    return build_captioner(checkpoint, precision=precision, runtime=runtime, threads=threads)


def build_captioner(
    checkpoint: Checkpoint,
    *,
    precision: Precision = "auto",
    runtime: RuntimeName = "torch",
    threads: int = 1,
) -> NetworkCaptioner:
    """Make a loaded bundle caption.

    runtime: "auto" takes OpenVINO where it is installed and has a graph for the model, else
        PyTorch.
    threads: how many OpenVINO computes one batch with; PyTorch computes with the calling thread's.
    Raises CheckpointError where OpenVINO is asked for and cannot run the model.
    """
    computing = _runtime(checkpoint, precision, runtime, threads)
    info = _describe(checkpoint)
    # a compiled graph has its own copy of the tensors
    kept = checkpoint.shared if isinstance(computing, TorchRuntime) else ()
    return NetworkCaptioner(computing, checkpoint.vocabulary, info, kept=kept)


def load_served(
    folder: Path, name: str, *, precision: Precision = "auto", store: SharedTensors | None = None
) -> NetworkCaptioner:
    """Load a model into the runtime that the service has unless asked, with all processors.

    Raises UnknownModelError or CheckpointError.
    """
    threads = torch.get_num_threads()
    return load_captioner(
        folder, name, precision=precision, runtime="torch", threads=threads, store=store
    )


def _runtime(
    checkpoint: Checkpoint, precision: Precision, runtime: RuntimeName, threads: int
) -> Runtime[Any]:
    config = checkpoint.config
    if runtime != "torch" and find_spec("openvino") is not None:
        from models.runtime.openvino import OpenVINORuntime, can_run  # takes a while to import

        if can_run(config):
            tensors = {name: t.numpy() for name, t in checkpoint.model.state_dict().items()}
            return OpenVINORuntime(
                config, tensors, checkpoint.model.encoder.grid, precision=precision, threads=threads
            )
    if runtime == "openvino":
        raise CheckpointError(
            f"OpenVINO is not installed, or cannot run the model '{config.name}': it runs the "
            "attention decoders on inception_v3, alone or beside another. Choose GLIMPSE_RUNTIME "
            "auto or torch."
        )
    return TorchRuntime(checkpoint.model, config.preprocess, precision=precision)


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
