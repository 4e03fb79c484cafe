"""A model's architecture alone: its tensors have shapes and no values. Knows no files."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from models.config import ModelConfig
from models.network import CaptioningModel, build_model

__all__ = ["build_outline"]


def build_outline(config: ModelConfig) -> CaptioningModel:
    """Build an architecture on the meta device. Raises ConfigError where it cannot be."""
    with torch.device("meta"), _NoInitialization():
        return build_model(config)


class _NoInitialization(TorchFunctionMode):
    """Leaves tensors as they are where a module would draw their first values.

    There is nothing to draw into; and drawing on the meta device makes PyTorch import its compiler,
    which takes seconds, and a folder for temporary files.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        if func is torch.eye and given.get("out") is not None:  # what nn.init.eye_ calls
            return given["out"]
        return func(*args, **given)
