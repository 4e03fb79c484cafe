"""The rule by which EfficientNet-Lite0 grows into Lite1 and Lite2: numbers alone, no torch.

Tan and Le 2019 (arXiv 1905.11946): wider and deeper by one rule.
"""

import math
from dataclasses import dataclass

__all__ = ["LITE0", "LITE1", "LITE2", "LiteScale", "Stages"]

# each: expansion, channels, kernel, first stride, blocks
Stages = tuple[tuple[int, int, int, int, int], ...]

_WIDTH_DIVISOR = 8
_LITE0_STAGES: Stages = (
    (0, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)


@dataclass(frozen=True, slots=True)
class LiteScale:
    """How much wider and deeper than Lite0 a network is, and the size that it classifies.

    classify_pixels: the side of the images that its classifier was trained on.
    """

    width: float
    depth: float
    classify_pixels: int

    @property
    def stages(self) -> Stages:
        """Lite0's stages, scaled; the first and the last keep their one block."""
        first, *middle, last = _LITE0_STAGES
        repeated = [
            (expansion, self._channels(channels), kernel, stride, math.ceil(blocks * self.depth))
            for expansion, channels, kernel, stride, blocks in middle
        ]
        ends = [(*stage[:1], self._channels(stage[1]), *stage[2:]) for stage in (first, last)]
        return (ends[0], *repeated, ends[1])

    def _channels(self, channels: int) -> int:
        """Scale a width to a multiple of 8, not below nine tenths (section 5 of the code)."""
        scaled = channels * self.width
        rounded = max(_WIDTH_DIVISOR, int(scaled + _WIDTH_DIVISOR / 2) // 8 * 8)
        return rounded if rounded >= 0.9 * scaled else rounded + _WIDTH_DIVISOR


LITE0 = LiteScale(width=1.0, depth=1.0, classify_pixels=224)
LITE1 = LiteScale(width=1.0, depth=1.1, classify_pixels=240)
LITE2 = LiteScale(width=1.1, depth=1.2, classify_pixels=260)
