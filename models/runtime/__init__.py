"""What computes: the two halves of a captioner, behind one Protocol. One runtime a file."""

from typing import Protocol, TypeVar

from torch import Tensor

from models.decoding import State, StepDecoder
from models.geometry import CellGrid

__all__ = ["Runtime"]

StateT = TypeVar("StateT", bound=State)


class Runtime(Protocol[StateT]):
    """The encoder and the decoder of one model, ready to compute."""

    @property
    def precision(self) -> str:
        """What the encoder computes in."""

    @property
    def grid(self) -> CellGrid:
        """Where the cells that `encode` sees lie on any image."""

    @property
    def decoder(self) -> StepDecoder[StateT]:
        """What decoding steps through."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, S, S) uint8 RGB to annotations (B, L, D) float32."""

    def score_tokens(self, annotations: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Read given captions by teacher forcing.

        annotations (B, L, D); token_ids (R, T), R = B * G rows grouped by image, without bos. Gives
        the log-probability of each token (R, T) and the map it was predicted from (R, T, L).
        """

    def fingerprint(self) -> str:
        """Identify what `encode` gives: equal for runtimes whose annotations are the same."""
