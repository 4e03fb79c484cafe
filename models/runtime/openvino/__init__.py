"""The runtime in OpenVINO, for CPUs: graphs made of a bundle's tensors, without PyTorch's network.

Imported only where it is used: `openvino` takes a moment, and not every machine has it.
"""

from models.runtime.openvino.runtime import OpenVINORuntime, can_run

__all__ = ["OpenVINORuntime", "can_run"]
