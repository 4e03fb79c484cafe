"""Which precision this machine computes faster in: measured once a process, never assumed. Knows no
model.

A processor that has bfloat16 instructions can be three times as fast in it, or half as fast, as if
it had none.
"""

import time
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F

__all__ = ["faster_precision"]

_CLEARLY = 0.8  # bfloat16 is coarser: it must be worth something
_ROUNDS = 7


@cache
def faster_precision() -> Literal["float32", "bfloat16"]:
    """Time a convolution as the encoders have it, in both; bfloat16 where it takes at most 0.8 of
    float32's time.

    Takes less than a tenth of a second the first time, and gives the same for the rest of the
    process.
    """
    if not torch.cpu._is_avx512_bf16_supported():
        return "float32"
    picture = torch.ones(1, 192, 28, 28).contiguous(memory_format=torch.channels_last)
    kernel = torch.ones(192, 192, 3, 3).contiguous(memory_format=torch.channels_last)
    pairs = ((picture, kernel), (picture.bfloat16(), kernel.bfloat16()))
    exact, coarse = [min(_seconds(*pair) for _ in range(_ROUNDS)) for pair in pairs]
    return "bfloat16" if coarse <= _CLEARLY * exact else "float32"


@torch.inference_mode()
def _seconds(picture: torch.Tensor, kernel: torch.Tensor) -> float:
    start = time.perf_counter()
    F.conv2d(picture, kernel, padding=1)
    return time.perf_counter() - start
