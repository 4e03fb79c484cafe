"""The precision that this machine computes faster in: measured once a process, never assumed.

Knows no model.

A processor with bfloat16 instructions can be three times as fast in bfloat16 as in float32, or half
as fast.
"""

import time
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F

__all__ = ["faster_precision"]

# bfloat16 is coarser: it must take at most this share of float32's time.
_WORTHWHILE = 0.8
_ROUNDS = 7


@cache
def faster_precision() -> Literal["float32", "bfloat16"]:
    """Time a convolution of the encoders' size in both precisions, and choose.

    Takes less than a tenth of a second the first time; the answer then stays for the rest of the
    process.
    """
    if not torch.cpu._is_avx512_bf16_supported():
        return "float32"
    image = torch.ones(1, 192, 28, 28).contiguous(memory_format=torch.channels_last)
    kernel = torch.ones(192, 192, 3, 3).contiguous(memory_format=torch.channels_last)
    exact = min(_seconds(image, kernel) for _ in range(_ROUNDS))
    coarse = min(_seconds(image.bfloat16(), kernel.bfloat16()) for _ in range(_ROUNDS))
    return "bfloat16" if coarse <= _WORTHWHILE * exact else "float32"


@torch.inference_mode()
def _seconds(image: torch.Tensor, kernel: torch.Tensor) -> float:
    start = time.perf_counter()
    F.conv2d(image, kernel, padding=1)
    return time.perf_counter() - start
