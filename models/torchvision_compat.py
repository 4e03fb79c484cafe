"""The import of torchvision, also beside a CPU-only torch. Knows no model.

A torchvision wheel built for CUDA cannot load its compiled operators beside a CPU build of torch,
and then its Python half fails too: it registers shape functions for `torchvision::nms` and
`torchvision::qnms`, which nobody declared. Declaring those two is all that transforms and
classifiers need; the operators of object detection stay absent.
"""

import functools
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import torch

from models.errors import ConfigError

__all__ = ["import_torchvision"]

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache
def import_torchvision() -> ModuleType:
    """Import torchvision, declaring what it lacks only where its compiled operators do not load.

    Slow the first time (seconds), so call it where torchvision is needed and not before. Raises
    ConfigError where torchvision is not installed.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("this needs torchvision, which is not installed: pip install torchvision")
    if not _load_operators(Path(spec.submodule_search_locations[0])):
        _declare_operators()
    return importlib.import_module("torchvision")


def _load_operators(folder: Path) -> bool:
    """Load torchvision's own operators as torchvision would; tell whether they are declared now."""
    for library in folder.glob("_C*.so"):
        try:
            torch.ops.load_library(library)
        except OSError:  # built for another torch
            return False
    return _is_declared("nms")


@functools.cache
def _declare_operators() -> torch.library.Library:
    """Declare the two operators, without a body; the cache keeps the declaration alive."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        if not _is_declared(schema.partition("(")[0]):
            library.define(schema)
    return library


def _is_declared(operator: str) -> bool:
    return hasattr(torch.ops.torchvision, operator)
