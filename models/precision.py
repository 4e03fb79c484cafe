"""The precision that this machine computes faster in: measured once a process, never assumed.

Knows no model.

A processor with bfloat16 instructions can be three times as fast in bfloat16 as in float32, or half
as fast.
"""

import time
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F

__all__ = ["PrecisionChoice", "faster_precision"]

# bfloat16 is coarser: it must take at most this share of float32's time.
_WORTHWHILE = 0.8
_ROUNDS = 15


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """A precision, and why it is this one, in words for a log."""

    precision: Literal["float32", "bfloat16"]
    reason: str


@cache
def faster_precision() -> PrecisionChoice:
    """Time a convolution of the encoders' size in both precisions, and choose.

    The two take turns, and the shortest of each counts, so that what disturbs the machine for a
    while disturbs both or neither. Takes about a tenth of a second the first time; the answer then
    stays for the rest of the process. To be called where the models compute.
    """
    if not torch.cpu._is_avx512_bf16_supported():
        return PrecisionChoice("float32", "the processor has no bfloat16 instructions")
    image = torch.ones(1, 192, 28, 28).contiguous(memory_format=torch.channels_last)
    kernel = torch.ones(192, 192, 3, 3).contiguous(memory_format=torch.channels_last)
    coarse_image, coarse_kernel = image.bfloat16(), kernel.bfloat16()
    exact, coarse = [], []
    for _ in range(_ROUNDS):
        exact.append(_seconds(image, kernel))
        coarse.append(_seconds(coarse_image, coarse_kernel))
    share = min(coarse) / min(exact)
    reason = f"bfloat16 took {share:.2f} of the time of float32; {_WORTHWHILE} is worth it"
    return PrecisionChoice("bfloat16" if share <= _WORTHWHILE else "float32", reason)


@torch.inference_mode()
def _seconds(image: torch.Tensor, kernel: torch.Tensor) -> float:
    start = time.perf_counter()
    F.conv2d(image, kernel, padding=1)
    return time.perf_counter() - start
