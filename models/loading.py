"""From a bundle on disk to a captioner. The one place that joins bundles with a runtime.

It imports a runtime only where a model is computed by it: a service whose models all run in
OpenVINO needs no torch.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from models.architectures.shapes import has_shapes
from models.bundles.reading import Bundle, CheckpointDescription
from models.bundles.registry import describe_model, load_model, read_model, read_model_config
from models.bundles.shared_tensors import SharedTensors
from models.caption import ModelInfo
from models.captioner import NetworkCaptioner
from models.config import ModelConfig
from models.errors import RuntimeMissingError
from models.runtime import Precision, Runtime
from models.threads import usable_processors

if TYPE_CHECKING:
    from models.bundles.checkpoint import Checkpoint

__all__ = [
    "Precision",
    "RuntimeName",
    "build_captioner",
    "describe_captioner",
    "load_captioner",
    "load_served",
    "prepare_computing_thread",
    "prepare_loading_thread",
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

    runtime: "auto" takes OpenVINO where it is installed and has a graph for the model, else
        PyTorch.
    threads: how many compute one batch; with `runtime` "torch" those of the calling thread do.
    store: in common with other captioners in PyTorch, whose shared files are then in memory once.
    Raises UnknownModelError, or CheckpointError, also where the runtime cannot run the model.
    """
    if _choose(read_model_config(folder, name), runtime) == "openvino":
        return _in_openvino(read_model(folder, name), precision, threads)
    own_threads = None if runtime == "torch" else threads
    if own_threads is not None:  # nobody has prepared this thread: torch may be new here
        _load_alone()
    checkpoint = load_model(folder, name, store or SharedTensors())
    return _in_torch(checkpoint, precision, own_threads)


def build_captioner(
    checkpoint: "Checkpoint",
    *,
    precision: Precision = "auto",
    runtime: RuntimeName = "torch",
    threads: int = 1,
) -> NetworkCaptioner:
    """Make a bundle caption that is loaded as a torch module.

    runtime, threads: as in `load_captioner`. Raises CheckpointError where OpenVINO is asked for and
    cannot run the model.
    """
    if _choose(checkpoint.config, runtime) == "torch":
        return _in_torch(checkpoint, precision)
    tensors = {name: tensor.numpy() for name, tensor in checkpoint.model.state_dict().items()}
    computing = _openvino(checkpoint.config, tensors, precision, threads)
    return NetworkCaptioner(computing, checkpoint.vocabulary, _info(checkpoint))


def load_served(
    folder: Path, name: str, *, precision: Precision = "auto", store: SharedTensors | None = None
) -> NetworkCaptioner:
    """Load a model into the runtime that the service has unless asked, with all processors.

    Raises UnknownModelError or CheckpointError.
    """
    threads = usable_processors()
    return load_captioner(
        folder, name, precision=precision, runtime="auto", threads=threads, store=store
    )


def describe_captioner(folder: Path, name: str, runtime: RuntimeName | None = None) -> ModelInfo:
    """Describe what `load_captioner` would give, without reading the weights.

    runtime: what it is to run in, which is then asked for too. Raises UnknownModelError or
    CheckpointError.
    """
    known = describe_model(folder, name)
    if runtime is not None:
        _choose(known.config, runtime)
    return _info(known)


def prepare_computing_thread(runtime: RuntimeName, threads: int, precision: Precision) -> None:
    """Get the calling thread ready to compute with PyTorch, where all models run in it.

    Otherwise torch is imported with the first model that needs it, if any.
    """
    if _is_torchs(runtime):
        from models.runtime.torch import prepare_computing_thread

        prepare_computing_thread(threads, precision)


def prepare_loading_thread(runtime: RuntimeName) -> None:
    """Make the calling thread compute alone as it loads, where all models run in PyTorch."""
    if _is_torchs(runtime):
        _load_alone()


def _load_alone() -> None:
    from models.runtime.torch import prepare_loading_thread

    prepare_loading_thread()


def _is_torchs(runtime: RuntimeName) -> bool:
    """Tell whether PyTorch runs every model."""
    chosen = runtime == "torch" or (runtime == "auto" and not _is_installed("openvino"))
    return chosen and _is_installed("torch")


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ImportError:
        return False


def _choose(config: ModelConfig, runtime: RuntimeName) -> Literal["torch", "openvino"]:
    """Choose what computes a model. Raises CheckpointError where nothing can that was asked for."""
    if runtime != "torch" and has_shapes(config) and _is_installed("openvino"):
        return "openvino"
    if runtime == "openvino":
        raise RuntimeMissingError(
            f"OpenVINO is not installed, or cannot run the model '{config.name}': it runs the "
            "attention decoders on inception_v3, alone or beside another. Choose GLIMPSE_RUNTIME "
            "auto or torch."
        )
    if not _is_installed("torch"):
        raise RuntimeMissingError(
            f"The model '{config.name}' runs in PyTorch, which is not installed here. Install the "
            "extra `torch` (`GLIMPSE_RUNTIME=torch make serve`, or pip install -e '.[torch]' -c "
            "constraints.txt), or choose a model that OpenVINO runs."
        )
    return "torch"


def _in_openvino(bundle: Bundle, precision: Precision, threads: int) -> NetworkCaptioner:
    computing = _openvino(bundle.config, bundle.tensors, precision, threads)
    return NetworkCaptioner(computing, bundle.vocabulary, _info(bundle.description))


def _openvino(
    config: ModelConfig, tensors: Any, precision: Precision, threads: int
) -> Runtime[Any]:
    from models.runtime.openvino import OpenVINORuntime  # takes a while to import

    return OpenVINORuntime(config, tensors, precision=precision, threads=threads)


def _in_torch(
    checkpoint: "Checkpoint", precision: Precision, threads: int | None = None
) -> NetworkCaptioner:
    from models.runtime.torch import TorchRuntime

    preprocess = checkpoint.config.preprocess
    computing = TorchRuntime(checkpoint.model, preprocess, precision=precision, threads=threads)
    info = _info(checkpoint)
    return NetworkCaptioner(computing, checkpoint.vocabulary, info, kept=checkpoint.shared)


def _info(known: "Checkpoint | CheckpointDescription") -> ModelInfo:
    return ModelInfo(
        name=known.config.name,
        digest=known.digest,
        config=known.config,
        parameters=known.parameters,
        metrics=known.metrics,
        memory=known.memory,
        decoder_parameters=known.decoder_parameters,
    )
