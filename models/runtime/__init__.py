"""What computes: the two halves of a captioner, behind one Protocol. One runtime a file.

B images, S their side in pixels, G captions an image, T tokens, L locations, D encoder features.
Features stay where `encode` put them; the other methods take them from there. All else that goes in
and comes out is NumPy's.
"""

from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from models.array_features import Features
from models.caption import RuntimeInfo
from models.decoding import State, StepDecoder
from models.geometry import CellGrid

__all__ = ["Precision", "Runtime", "Scores"]

StateT = TypeVar("StateT", bound=State)

Precision = Literal["auto", "float32", "bfloat16"]

Scores = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""The natural log of each token's probability (B, G, T), and the maps (B, G, T, L)."""


class Runtime(Protocol[StateT]):
    """The encoder and the decoder of one model, ready to compute."""

    @property
    def precision(self) -> str:
        """What the encoder computes in."""

    def describe(self) -> RuntimeInfo:
        """Say what computes, as the calling thread would compute."""

    @property
    def grid(self) -> CellGrid:
        """Where the cells that `encode` sees lie on any image."""

    @property
    def decoder(self) -> StepDecoder[StateT]:
        """What decoding steps through."""

    def encode(self, pixels: Any) -> Features:
        """Encode pixels (B, 3, S, S) uint8 RGB, in any library's array, to features in float32."""

    def score_tokens(self, features: Features, token_ids: npt.NDArray[np.int64]) -> Scores:
        """Read given captions by teacher forcing.

        token_ids (B, G, T) without bos. Gives the natural log of each token's probability, and the
        map it was predicted from.
        """

    def fingerprint(self) -> str:
        """Identify what `encode` gives: equal for runtimes whose features are the same."""
